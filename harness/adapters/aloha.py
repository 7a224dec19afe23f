"""ALOHA's two arms in the convention of the pi0 models, in which all robots share an action space.

Joints turn the way they do on the robots that pi0 was trained on, and grippers are opening angles
instead of openings. Observations are those of openpi's ALOHA client: `state`, `images` by camera, and
`prompt`. Vectors are six joints (rad) and a gripper of the left arm, then of the right.

Axis letters: n any number of axes, t actions, a action size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from simloop.envs.interface import Env, TaskSpec
from simloop.harness.adapters.base import Adapter, clipped_actions
from simloop.harness.adapters.openpi_observation import (
    ModelView,
    ObservationError,
    read_image,
    read_instruction,
    read_vector,
)

CAMERAS = {
    "base_0_rgb": "cam_high",
    "left_wrist_0_rgb": "cam_left_wrist",
    "right_wrist_0_rgb": "cam_right_wrist",
}
REQUIRED_CAMERA = "cam_high"
UNUSED_CAMERAS = ("cam_low",)  # The robot may have it; no pi0 model was trained with it.
SIZE = 14
GRIPPERS = (6, 13)
_ARM_SIGNS = (1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0)  # Shoulder and elbow turn the other way.
JOINT_SIGNS = np.array(_ARM_SIGNS * 2)

# ALOHA reports an opening that is 0 at the closed and 1 at the open limit of the finger's travel.
CLOSED_FINGER_M, OPEN_FINGER_M = 0.01844, 0.05800
# A servo horn pushes the finger through a rod; the angle follows from their lengths.
HORN_M, ROD_M = 0.022, 0.036
# Limits of the gripper angle on the robots that pi0 was trained on.
PI_CLOSED_RAD, PI_OPEN_RAD = 0.5476, 1.6296
# Limits of the gripper's servo angle, in which ALOHA takes gripper commands.
SERVO_CLOSED_RAD, SERVO_OPEN_RAD = -0.6213, 1.4910


def model_view(observation: Mapping[str, object], *, adapt_to_pi: bool = True) -> ModelView:
    """What the model sees of an observation.

    Args:
      observation: `state` [14], `images` by camera name, and perhaps `prompt`.
      adapt_to_pi: Whether the state is converted. False for models trained on raw ALOHA data.

    Raises:
      ObservationError: If something is absent, misshapen or unknown.
    """
    images = observation.get("images")
    known = (*CAMERAS.values(), *UNUSED_CAMERAS)
    if not isinstance(images, Mapping) or REQUIRED_CAMERA not in images or set(images) - set(known):
        found = ", ".join(images) if isinstance(images, Mapping) else "no images"
        raise ObservationError(
            f"ALOHA's images need {REQUIRED_CAMERA!r} and may have {', '.join(known)}; got {found}."
        )
    state = read_vector(observation, "state", SIZE)
    return ModelView(
        images={model: read_image(images, name) for model, name in CAMERAS.items() if name in images},
        state=pi_state(state) if adapt_to_pi else state,
        instruction=read_instruction(observation),
    )


def pi_state(state: Float[np.ndarray, "*n 14"]) -> Float[np.ndarray, "*n 14"]:
    """ALOHA's state in the convention of the pi0 models."""
    converted = JOINT_SIGNS * state
    converted[..., GRIPPERS] = pi_gripper_from_opening(converted[..., GRIPPERS])
    return converted


def robot_actions(
    actions: Float[np.ndarray, "t a"], *, adapt_to_pi: bool = True
) -> Float[np.ndarray, "t 14"]:
    """The model's padded actions in ALOHA's convention."""
    actions = actions[..., :SIZE]
    if not adapt_to_pi:
        return actions
    converted = JOINT_SIGNS * actions
    converted[..., GRIPPERS] = servo_fraction_from_pi_command(converted[..., GRIPPERS])
    return converted


def pi_actions(actions: Float[np.ndarray, "*n 14"]) -> Float[np.ndarray, "*n 14"]:
    """Recorded ALOHA actions in the convention of the pi0 models, for training: undoes `robot_actions`."""
    converted = JOINT_SIGNS * actions
    converted[..., GRIPPERS] = pi_command_from_servo_fraction(converted[..., GRIPPERS])
    return converted


def pi_gripper_from_opening(opening: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Gripper angle of the pi0 convention, 0 to 1 between its limits, from ALOHA's opening, 0 to 1."""
    finger_m = opening * (OPEN_FINGER_M - CLOSED_FINGER_M) + CLOSED_FINGER_M
    sine = (HORN_M**2 + finger_m**2 - ROD_M**2) / (2 * HORN_M * finger_m)
    angle_rad = np.arcsin(np.clip(sine, -1.0, 1.0))
    return (angle_rad - PI_CLOSED_RAD) / (PI_OPEN_RAD - PI_CLOSED_RAD)


def servo_fraction_from_pi_command(command: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """ALOHA's gripper command, 0 to 1 between the servo's limits, from the model's.

    The command is shifted by the closed angle but, unlike the state, never scaled by the pi0 range:
    states and actions are converted by different maps, and the published models were trained on that.
    """
    return (command + PI_CLOSED_RAD - SERVO_CLOSED_RAD) / (SERVO_OPEN_RAD - SERVO_CLOSED_RAD)


def pi_command_from_servo_fraction(fraction: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The inverse of `servo_fraction_from_pi_command`."""
    return fraction * (SERVO_OPEN_RAD - SERVO_CLOSED_RAD) + SERVO_CLOSED_RAD - PI_CLOSED_RAD


def _suite_state(env: Env) -> Float[np.ndarray, "14"]:
    return pi_state(env.state().astype(np.float64)).astype(np.float32)


def _suite_actions(task: TaskSpec, actions: Float[np.ndarray, "t a"]) -> Float[np.ndarray, "t 14"]:
    """Convert actions to ALOHA's convention, clipped to the ranges of the servos as the simulation would."""
    return clipped_actions(task, robot_actions(actions.astype(np.float64)))


ALOHA_SIM = Adapter(
    suite="aloha_sim",
    robot="aloha",
    # The published policy was trained with this camera alone. The wrist cameras are there for others.
    cameras={"base_0_rgb": "top", "left_wrist_0_rgb": "left_wrist", "right_wrist_0_rgb": "right_wrist"},
    state=_suite_state,
    actions=_suite_actions,
)
