"""Adapters of suites that run in interpreters of their own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from simloop.envs.interface import Env
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.openpi_observation import RobotConvention

SUITE_EXPERT = "expert"
"""Robot convention of experts that a suite brings: its simulator state begins with the next action of the expert."""

MANISKILL_PANDA = RobotConvention(
    cameras={"base_0_rgb": "observation/image", "left_wrist_0_rgb": "observation/wrist_image"},
    # Seven joints (rad), one finger, hand position and goal (m).
    state={
        "observation/joint_position": 7,
        "observation/gripper_position": 1,
        "observation/hand_and_goal": 6,
    },
    # Targets of the joints (rad), and the gripper from -1 (closed) to 1 (open).
    action_size=8,
)
"""ManiSkill's Panda, with a state of one size for all tasks."""


def _panda_state(env: Env) -> Float32[np.ndarray, "14"]:
    """Joints, a finger, hand position and goal or bin, which is zero in tasks that do not tell it."""
    values = dict(zip(env.spec.state_names, env.state(), strict=True))
    arm = [*(f"joint_{i}_rad" for i in range(1, 8)), "finger_1_m", *(f"hand_{axis}_m" for axis in "xyz")]
    goal = [values.get(f"goal_{axis}_m", values.get(f"bin_{axis}_m", 0.0)) for axis in "xyz"]
    return np.array([*(values[name] for name in arm), *goal], np.float32)


SERVED = (
    Adapter("robosuite", SUITE_EXPERT),
    Adapter(
        "robosuite",
        "robosuite",
        cameras={"base_0_rgb": "agentview", "left_wrist_0_rgb": "robot0_eye_in_hand"},
    ),
    Adapter("maniskill", SUITE_EXPERT),
    Adapter(
        "maniskill",
        "maniskill",
        cameras={"base_0_rgb": "base_camera", "left_wrist_0_rgb": "hand_camera"},
    ),
    Adapter(
        "maniskill",
        "maniskill_panda",
        cameras={"base_0_rgb": "base_camera", "left_wrist_0_rgb": "hand_camera"},
        convention=MANISKILL_PANDA,
        state=_panda_state,
    ),
    Adapter("simpler_bridge", "simpler_bridge", cameras={"base_0_rgb": "3rd_view_camera"}),
    Adapter(
        "robocasa",
        "robocasa",
        cameras={
            "base_0_rgb": "robot0_agentview_left",
            "left_wrist_0_rgb": "robot0_eye_in_hand",
            "right_wrist_0_rgb": "robot0_agentview_right",
        },
    ),
    Adapter(
        "molmospaces",
        "molmospaces",
        cameras={"base_0_rgb": "exo_camera_1", "left_wrist_0_rgb": "wrist_camera"},
    ),
)
"""Where no convention is given, states and actions are those of the suite."""
