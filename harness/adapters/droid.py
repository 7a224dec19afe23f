"""DROID's Panda in the convention of the published `pi0_droid`, `pi05_droid` and `pi0_fast_droid`.

Observations are those of openpi's DROID client: one exterior and one wrist image, seven joint
positions (rad), the gripper (0 open to 1 closed), and `prompt`.

Axis letters: t actions, a action size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float

from simloop.harness.adapters.openpi_observation import ModelView, read_image, read_instruction, read_vector

CAMERAS = {
    "flow": {
        "base_0_rgb": "observation/exterior_image_1_left",
        "left_wrist_0_rgb": "observation/wrist_image_left",
    },
    # pi0-FAST has two exterior cameras and one wrist; DROID's second exterior camera is not used.
    "fast": {
        "base_0_rgb": "observation/exterior_image_1_left",
        "wrist_0_rgb": "observation/wrist_image_left",
    },
}
JOINTS = 7
ACTION_SIZE = JOINTS + 1
"""Joint velocities in [-1, 1] (joint positions for the `jointpos` models), and the gripper."""
GRIPPER_CLOSES_ABOVE = 0.5  # The real gripper takes open or closed only.


def model_view(observation: Mapping[str, object], model: Literal["flow", "fast"] = "flow") -> ModelView:
    """What the model sees of an observation.

    Raises:
      ObservationError: If something is absent or misshapen.
    """
    joints = read_vector(observation, "observation/joint_position", JOINTS)
    gripper = read_vector(observation, "observation/gripper_position", 1)
    return ModelView(
        images={camera: read_image(observation, key) for camera, key in CAMERAS[model].items()},
        state=np.concatenate([joints, gripper]),
        instruction=read_instruction(observation),
    )


def robot_actions(actions: Float[np.ndarray, "t a"]) -> Float[np.ndarray, "t 8"]:
    """The robot's part of the model's padded actions."""
    return actions[..., :ACTION_SIZE]


def executable_velocities(actions: Float[np.ndarray, "t 8"]) -> Float[np.ndarray, "t 8"]:
    """Joint velocities as the robot executes them: gripper open or closed, everything in [-1, 1]."""
    gripper = (actions[..., JOINTS:] > GRIPPER_CLOSES_ABOVE).astype(actions.dtype)
    return np.clip(np.concatenate([actions[..., :JOINTS], gripper], axis=-1), -1.0, 1.0)
