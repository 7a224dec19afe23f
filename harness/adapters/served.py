"""Adapters of suites that run in interpreters of their own."""

from __future__ import annotations

from simloop.harness.adapters.base import Adapter

SUITE_EXPERT = "expert"
"""Robot convention of experts that a suite brings: its simulator state is the next action of the expert."""

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
"""States and actions are those of the suite."""
