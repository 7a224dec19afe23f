"""LIBERO's Panda in the convention of the published `pi0_libero`, `pi05_libero` and `pi0_fast_libero`.

Observations are those of openpi's LIBERO client: `observation/image`, `observation/wrist_image`,
`observation/state` and `prompt`.

Axis letters: t actions, a action size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from simloop.envs.interface import Env
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.openpi_observation import ModelView, read_image, read_instruction, read_vector

CAMERAS = {
    "base_0_rgb": "observation/image",
    # A single arm counts as the left one of a bimanual robot.
    "left_wrist_0_rgb": "observation/wrist_image",
}
STATE_SIZE = 8
"""Hand position (m), hand orientation as axis angle (rad), both finger positions (m)."""
ACTION_SIZE = 7
"""Hand translation and rotation of one step, and the gripper; all in [-1, 1]."""


def model_view(observation: Mapping[str, object]) -> ModelView:
    """What the model sees of an observation.

    Raises:
      ObservationError: If something is absent or misshapen.
    """
    return ModelView(
        images={camera: read_image(observation, key) for camera, key in CAMERAS.items()},
        state=read_vector(observation, "observation/state", STATE_SIZE),
        instruction=read_instruction(observation),
    )


def robot_actions(actions: Float[np.ndarray, "t a"]) -> Float[np.ndarray, "t 7"]:
    """The robot's part of the model's padded actions."""
    return actions[..., :ACTION_SIZE]


def hand_state(
    position_m: Float[np.ndarray, "3"], quat_xyzw: Float[np.ndarray, "4"], fingers_m: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "8"]:
    """The state vector from what the simulator reports of the hand."""
    return np.concatenate([position_m, axis_angle_from_quat_xyzw(quat_xyzw), fingers_m])


def axis_angle_from_quat_xyzw(quat_xyzw: Float[np.ndarray, "4"]) -> Float[np.ndarray, "3"]:
    """Rotation axis times angle in [0, 2π]: a quaternion with negative w gives an angle beyond π.

    Libraries return the shorter way round. The training data were made without, and the hand of LIBERO
    points down, where the two differ.
    """
    w = np.clip(quat_xyzw[3], -1.0, 1.0)
    sine = np.sqrt(1.0 - w * w)
    if np.isclose(sine, 0.0):
        return np.zeros(3)
    return quat_xyzw[:3] * 2.0 * np.arccos(w) / sine


def _suite_state(env: Env) -> Float[np.ndarray, "8"]:
    """The state vector from the suite's own, whose hand orientation is a quaternion."""
    state = env.state().astype(np.float64)
    return hand_state(state[:3], state[3:7], state[7:]).astype(np.float32)


def _mirrored(image: np.ndarray) -> np.ndarray:
    """Left and right exchanged.

    robosuite's pictures come with the lowest row first. The training data turned them by 180 degrees, which
    puts the top up and leaves a mirror image; the suite's picture is upright and is none.
    """
    return np.ascontiguousarray(image[:, ::-1])


LIBERO = Adapter(
    suite="libero",
    robot="libero",
    cameras={"base_0_rgb": "agentview", "left_wrist_0_rgb": "robot0_eye_in_hand"},
    image=_mirrored,
    state=_suite_state,
    state_size=STATE_SIZE,
)
