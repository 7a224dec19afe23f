"""LIBERO's Panda in the convention of the published `pi0_libero`, `pi05_libero` and `pi0_fast_libero`."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Float64, UInt8

from simloop.envs.interface import Env
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.openpi_observation import RobotConvention

PANDA = RobotConvention(
    cameras={
        "base_0_rgb": "observation/image",
        "left_wrist_0_rgb": "observation/wrist_image",  # A single arm counts as the left one of two.
    },
    # Hand position (m), hand orientation as axis angle (rad), both finger positions (m).
    state={"observation/state": 8},
    # Hand translation and rotation of one step, and the gripper; all in [-1, 1].
    action_size=7,
)


def hand_state(
    position_m: Float[np.ndarray, "3"], quat_xyzw: Float[np.ndarray, "4"], fingers_m: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "8"]:
    """Return the state vector from the simulator's report of the hand."""
    return np.concatenate([position_m, axis_angle_from_quat_xyzw(quat_xyzw), fingers_m])


def axis_angle_from_quat_xyzw(quat_xyzw: Float[np.ndarray, "4"]) -> Float[np.ndarray, "3"]:
    """Return rotation axis times angle in [0, 2π]; a quaternion with negative w gives an angle above π.

    Libraries return the shorter rotation. The training data do not, and for the hand of LIBERO, which points down, the
    two differ.
    """
    w = np.clip(quat_xyzw[3], -1.0, 1.0)
    sine = np.sqrt(1.0 - w * w)
    if np.isclose(sine, 0.0):
        return np.zeros(3)
    axis_angle: np.ndarray = quat_xyzw[:3] * 2.0 * np.arccos(w) / sine
    return axis_angle


def _panda_state(env: Env) -> Float64[np.ndarray, "8"]:
    """Return the state vector of an environment, whose own state has the hand orientation as a quaternion."""
    state = env.state().astype(np.float64)
    return hand_state(state[:3], state[3:7], state[7:])


def _mirrored(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Exchange left and right.

    Images of robosuite have the lowest row first. The training data rotated them by 180 degrees, which puts the top up
    and leaves a mirror image; the suite's images are upright and not mirrored.
    """
    return np.ascontiguousarray(image[:, ::-1])


LIBERO = Adapter(
    suite="libero",
    robot="libero",
    cameras={"base_0_rgb": "agentview", "left_wrist_0_rgb": "robot0_eye_in_hand"},
    convention=PANDA,
    image=_mirrored,
    state=_panda_state,
)

LIBERO_PRO = dataclasses.replace(LIBERO, suite="libero_pro")
LIBERO_PLUS = dataclasses.replace(LIBERO, suite="libero_plus")
