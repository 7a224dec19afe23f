"""DROID's Panda in the convention of the published `pi0_droid`, `pi05_droid` and `pi0_fast_droid`."""

from __future__ import annotations

from simloop.harness.adapters.openpi_observation import RobotConvention

_STATE = {"observation/joint_position": 7, "observation/gripper_position": 1}
"""Joint positions (rad), and the gripper from 0 (open) to 1 (closed)."""
_ACTION_SIZE = 8
"""Joint velocities in [-1, 1] (joint positions for the `jointpos` models), and the gripper."""

DROID = RobotConvention(
    cameras={
        "base_0_rgb": "observation/exterior_image_1_left",
        "left_wrist_0_rgb": "observation/wrist_image_left",
    },
    state=_STATE,
    action_size=_ACTION_SIZE,
)
"""For the flow models pi0 and pi0.5."""

DROID_FAST = RobotConvention(
    # pi0-FAST has two exterior cameras and one wrist camera; DROID's second exterior camera is not used.
    cameras={
        "base_0_rgb": "observation/exterior_image_1_left",
        "wrist_0_rgb": "observation/wrist_image_left",
    },
    state=_STATE,
    action_size=_ACTION_SIZE,
)
"""For pi0-FAST."""
