"""Fields that presets of one robot, or of one family of models, share."""

from __future__ import annotations

from typing import Any

from simloop.policies.tokenizers.fast_actions import PUBLISHED_FAST

ALOHA: dict[str, Any] = {"robot": "aloha", "cameras": ("base_0_rgb",), "state_size": 14, "action_size": 14}
"""Two arms, six joints and a gripper each. Wrist cameras are optional."""

LIBERO: dict[str, Any] = {
    "robot": "libero",
    "cameras": ("base_0_rgb", "left_wrist_0_rgb"),
    "state_size": 8,
    "action_size": 7,
    "replan_steps": 5,
}
"""LIBERO's Panda: state position, axis angle, two fingers; actions six pose deltas and the gripper."""

DROID: dict[str, Any] = {
    "robot": "droid",
    "cameras": ("base_0_rgb", "left_wrist_0_rgb"),
    "state_size": 8,
    "action_size": 8,
    "replan_steps": 8,
}
"""DROID's Panda: seven joints and the gripper, for state and actions."""

MANISKILL: dict[str, Any] = {
    "robot": "maniskill_panda",
    "cameras": ("left_wrist_0_rgb",),
    "state_size": 14,
    "action_size": 8,
    "relative": (True,) * 7,
}
"""ManiSkill's Panda: state joints, finger, hand position, goal; actions seven targets of joints and the gripper."""

PI0: dict[str, Any] = {"normalization": "z_score", "prompt": "instruction", "prompt_lengths": (48,)}
PI05: dict[str, Any] = {"normalization": "quantile", "prompt": "instruction_and_state"}
PI0_FAST: dict[str, Any] = {
    "normalization": "quantile",
    "prompt": "fast",
    "action_tokens": PUBLISHED_FAST,
    "absent_cameras": "black",
}
