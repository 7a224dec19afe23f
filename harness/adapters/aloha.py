"""ALOHA's two arms in the convention of the pi0 models, in which all robots share an action space.

Joints turn the way they do on the robots that pi0 was trained on, and grippers are opening angles instead of openings.
Observations are those of openpi's ALOHA client: `state`, `images` by camera, and `prompt`. Vectors are six joints (rad)
and a gripper of the left arm, then of the right.

Axis letters: n any number of axes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.openpi_observation import ModelView, ObservationError, RobotConvention

SIZE = 14
GRIPPERS = (6, 13)
_ARM_SIGNS = (1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0)  # Shoulder and elbow turn the other way.
JOINT_SIGNS = np.array(_ARM_SIGNS * 2)

# ALOHA reports openings from 0 at the closed to 1 at the open limit of the finger's travel.
CLOSED_FINGER_M, OPEN_FINGER_M = 0.01844, 0.05800
# A servo horn pushes the finger through a rod; the angle follows from their lengths.
HORN_M, ROD_M = 0.022, 0.036
# Limits of the gripper angle on the robots that pi0 was trained on.
PI_CLOSED_RAD, PI_OPEN_RAD = 0.5476, 1.6296
# Limits of the gripper's servo angle, in which ALOHA takes gripper commands.
SERVO_CLOSED_RAD, SERVO_OPEN_RAD = -0.6213, 1.4910


def pi_state(state: Float[np.ndarray, "*n 14"]) -> Float[np.ndarray, "*n 14"]:
    """Convert ALOHA's state to the convention of the pi0 models."""
    return _converted(state, pi_gripper_from_opening)


def robot_actions(actions: Float[np.ndarray, "*n 14"]) -> Float[np.ndarray, "*n 14"]:
    """Convert actions of the pi0 models to ALOHA's convention."""
    return _converted(actions, servo_fraction_from_pi_command)


def pi_actions(actions: Float[np.ndarray, "*n 14"]) -> Float[np.ndarray, "*n 14"]:
    """Convert ALOHA actions to the convention of the pi0 models: the inverse of `robot_actions`."""
    return _converted(actions, pi_command_from_servo_fraction)


def _converted(values: np.ndarray, convert_gripper: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Reverse the joints that turn the other way, and convert the grippers."""
    converted: np.ndarray = JOINT_SIGNS * values
    converted[..., GRIPPERS] = convert_gripper(converted[..., GRIPPERS])
    return converted


def pi_gripper_from_opening(opening: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return the gripper angle of the pi0 convention, 0 to 1 between its limits, for ALOHA's opening, 0 to 1."""
    finger_m = opening * (OPEN_FINGER_M - CLOSED_FINGER_M) + CLOSED_FINGER_M
    sine = (HORN_M**2 + finger_m**2 - ROD_M**2) / (2 * HORN_M * finger_m)
    angle_rad = np.arcsin(np.clip(sine, -1.0, 1.0))
    return (angle_rad - PI_CLOSED_RAD) / (PI_OPEN_RAD - PI_CLOSED_RAD)


def servo_fraction_from_pi_command(command: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return ALOHA's gripper command, 0 to 1 between the servo's limits, for the model's.

    The command is shifted by the closed angle but, unlike the state, not scaled by the range of pi0. The published
    models were trained with these two different maps.
    """
    return (command + PI_CLOSED_RAD - SERVO_CLOSED_RAD) / (SERVO_OPEN_RAD - SERVO_CLOSED_RAD)


def pi_command_from_servo_fraction(fraction: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return the inverse of `servo_fraction_from_pi_command`."""
    return fraction * (SERVO_OPEN_RAD - SERVO_CLOSED_RAD) + SERVO_CLOSED_RAD - PI_CLOSED_RAD


ALOHA = RobotConvention(
    cameras={
        "base_0_rgb": "images/cam_high",
        "left_wrist_0_rgb": "images/cam_left_wrist",
        "right_wrist_0_rgb": "images/cam_right_wrist",
    },
    optional_cameras=("left_wrist_0_rgb", "right_wrist_0_rgb"),
    state={"state": SIZE},
    action_size=SIZE,
    model_state=pi_state,
    from_model_actions=robot_actions,
    to_model_actions=pi_actions,
)
RAW_ALOHA = RobotConvention(ALOHA.cameras, ALOHA.optional_cameras, ALOHA.state, SIZE)
"""For models that were trained on ALOHA data without conversion."""
UNUSED_CAMERAS = ("images/cam_low",)  # The robot may have it; no pi0 model was trained with it.


def model_view(observation: Mapping[str, object], convention: RobotConvention = ALOHA) -> ModelView:
    """Convert an observation of openpi's ALOHA client, whose images are a mapping of their own.

    Raises:
      ObservationError: If an entry is missing, misshapen or unknown.
    """
    given = observation.get("images")
    images = {f"images/{name}": image for name, image in given.items()} if isinstance(given, Mapping) else {}
    if unknown := set(images) - {*convention.cameras.values(), *UNUSED_CAMERAS}:
        known = ", ".join((*convention.cameras.values(), *UNUSED_CAMERAS))
        raise ObservationError(f"ALOHA may have {known}; got {', '.join(sorted(unknown))}.")
    return convention.model_view({**observation, **images})


ALOHA_SIM = Adapter(
    suite="aloha_sim",
    robot="aloha",
    # The published policy was trained with the first camera alone; the wrist cameras are for other policies.
    cameras={"base_0_rgb": "top", "left_wrist_0_rgb": "left_wrist", "right_wrist_0_rgb": "right_wrist"},
    convention=ALOHA,
)
RAW_ALOHA_SIM = dataclasses.replace(ALOHA_SIM, robot="aloha_raw", convention=RAW_ALOHA)
"""For policies that take states and give actions as the robot has them, such as those behind a policy server."""
