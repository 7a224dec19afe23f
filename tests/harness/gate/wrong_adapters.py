"""Adapters with the known causes of a success rate of 0 %, by what the gate says about them."""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from simloop.harness.adapters.aloha import ALOHA_SIM
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.libero import LIBERO

FLIP = np.array([1, 1, 1, 1, 1, 1, -1.0])


def other_state(change) -> Adapter:
    """LIBERO's adapter with a changed state vector."""
    return dataclasses.replace(LIBERO, state=lambda env: change(LIBERO.state(env), env.state().astype(float)))


def other_actions(change, adapter: Adapter = LIBERO) -> Adapter:
    right = adapter.convention
    convention = dataclasses.replace(right, from_model_actions=lambda a: change(right.from_model_actions(a)))
    return dataclasses.replace(adapter, convention=convention)


def euler(state, own):
    return np.concatenate([state[:3], Rotation.from_quat(own[3:7]).as_euler("xyz"), state[6:]])


def shorter(state, own):
    return np.concatenate([state[:3], Rotation.from_quat(own[3:7]).as_rotvec(), state[6:]])


def degrees(state, own):
    return np.concatenate([state[:3], np.rad2deg(state[3:6]), state[6:]])


WRONG = {
    "upside down and mirrored, compared": dataclasses.replace(LIBERO, image=lambda i: LIBERO.image(i)[::-1]),
    "rotated by 180 degrees, compared": dataclasses.replace(
        LIBERO, image=lambda i: LIBERO.image(i)[::-1, ::-1]
    ),
    "mirrored, compared": dataclasses.replace(LIBERO, image=lambda i: i),
    "with red and blue exchanged, compared": dataclasses.replace(
        LIBERO, image=lambda i: LIBERO.image(i)[..., ::-1]
    ),
    "swapped cameras: base_0_rgb shows 'robot0_eye_in_hand'": dataclasses.replace(
        LIBERO, cameras={"base_0_rgb": "robot0_eye_in_hand", "left_wrist_0_rgb": "agentview"}
    ),
    "gripper_closing has the other sign": other_actions(lambda a: a * FLIP),
    "hand_rotation_x is in degrees": other_actions(lambda a: a * np.array([1, 1, 1, *[180 / np.pi] * 3, 1])),
    "hand_dx is hand_dy: another order": other_actions(lambda a: a[..., [1, 0, 2, 3, 4, 5, 6]]),
    "hand_dx is shifted by 0.3": other_actions(lambda a: a + np.array([0.3, 0, 0, 0, 0, 0, 0])),
    "gripper_closing is 2 times as large, is shifted by -1": other_actions(
        lambda a: a * np.array([1, 1, 1, 1, 1, 1, 2]) + np.array([0, 0, 0, 0, 0, 0, -1])
    ),
    "entries 3 to 5 are Euler angles (x, y, z) where an axis angle": other_state(euler),
    "entries 3 to 5 are the axis angle that turns the other way round": other_state(shorter),
    "entries 3 to 6 are a quaternion": other_state(lambda state, own: own[:8]),
    "entry 3 is in degrees where radians": other_state(degrees),
    "entry 0 is entry 1: another order": other_state(lambda state, _: state[[1, 0, 2, 3, 4, 5, 6, 7]]),
    "entry 0 is in millimetres": other_state(lambda state, _: state * np.array([1000.0] * 3 + [1] * 5)),
    "7 entries, where the convention of the robot has 8": other_state(lambda state, _: state[:7]),
    "left_shoulder_rad_target has the other sign": other_actions(
        lambda a: a * np.where(np.arange(14) == 1, -1, 1), ALOHA_SIM
    ),
}
