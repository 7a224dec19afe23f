"""Tables of the two tasks of ALOHA in simulation.

Importing this module needs neither gym-aloha nor MuJoCo.

Reference: T. Zhao et al., Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware (2023),
arXiv:2304.13705; tasks as in package gym-aloha 0.1.5.
"""

from __future__ import annotations

from simloop.envs.interface import TaskSpec

SUITE = "aloha_sim"

# The published `pi0_aloha_sim` was trained with the first sentence only. The second is from the public demonstrations.
INSTRUCTIONS = {
    "transfer_cube": "Transfer cube",
    "insertion": "Insert the peg into the socket",
}

# The camera of published policies comes first. The wrist cameras are the robot's, the others the scene's.
CAMERAS = ("top", "left_wrist", "right_wrist", "angle", "front_close", "left_pillar", "right_pillar")

# The limit of ACT, which introduced the tasks, and of LeRobot. gym-aloha registers its environments with 300 steps, as
# openpi's evaluation uses them: that limit is part of a protocol.
MAX_STEPS = 400
CONTROL_HZ = 50.0  # Ten physics steps of 2 ms to a control step.
OBJECT_POSE_SIZE = 7  # Position and quaternion.
OBJECTS = {"transfer_cube": 1, "insertion": 2}  # The cube; the peg and the socket.

_ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
STATE_NAMES = tuple(
    name
    for arm in ("left", "right")
    for name in (*(f"{arm}_{joint}_rad" for joint in _ARM_JOINTS), f"{arm}_gripper_opening")
)
"""Joint positions; gripper openings from 0 (closed) to 1 (open), limits that the fingers may exceed."""

ACTION_NAMES = tuple(f"{name}_target" for name in STATE_NAMES)
# Control ranges of the model's servos. MuJoCo clips to them in gym-aloha.
_ARM_LOW = (-3.14158, -1.85005, -1.76278, -3.14158, -1.8675, -3.14158, 0.0)
_ARM_HIGH = (3.14158, 1.25664, 1.6057, 3.14158, 2.23402, 3.14158, 1.0)

TASKS = tuple(
    TaskSpec(
        suite=SUITE,
        name=name,
        instruction=instruction,
        max_steps=MAX_STEPS,
        control_hz=CONTROL_HZ,
        cameras=CAMERAS,
        state_names=STATE_NAMES,
        action_names=ACTION_NAMES,
        action_low=_ARM_LOW * 2,
        action_high=_ARM_HIGH * 2,
        action_kinds=("target",) * 14,
        privileged_size=OBJECTS[name] * OBJECT_POSE_SIZE,
    )
    for name, instruction in INSTRUCTIONS.items()
)

GROUPS = {"all": tuple(INSTRUCTIONS)}
