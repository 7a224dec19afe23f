"""Meta-World's Sawyer for the two robot conventions that differ in where its cameras are."""

from __future__ import annotations

from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.openpi_observation import RobotConvention

SAWYER = RobotConvention(
    cameras={"base_0_rgb": "observation/image", "left_wrist_0_rgb": "observation/wrist_image"},
    # Hand position (m), gripper opening.
    state={"observation/state": 4},
    # Displacement of the hand in one step, and the gripper; all in [-1, 1].
    action_size=4,
)
"""Names in observations of clients of policy servers. No openpi policy for Meta-World is published."""

METAWORLD = Adapter(
    suite="metaworld",
    robot="metaworld",
    cameras={
        # The view of published Meta-World results of vision policies: LeRobot moves the camera `corner2`
        # to where this suite's `corner4` stands, nearer to the table.
        "base_0_rgb": "corner4",
        # The camera on the hand; the one-armed robots of the pi0 family call theirs the left wrist.
        "left_wrist_0_rgb": "gripperPOV",
    },
)

METAWORLD_HAND = Adapter(
    suite="metaworld",
    robot="metaworld_hand",
    cameras={
        # Over the shoulder of the hand and moving with it, so that where a goal is in the image says which
        # way it lies. Seen from a corner of the table, a goal is two pixels of a hundred.
        "base_0_rgb": "behindGripper",
        "left_wrist_0_rgb": "gripperPOV",
    },
)
