from unittest.mock import create_autospec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simloop.envs.interface import Env
from simloop.envs.registry import suite
from simloop.harness.adapters import aloha
from simloop.harness.adapters.openpi_observation import ObservationError
from simloop.policies.presets import PRESETS

IMAGE = np.zeros((3, 4, 6), np.uint8)
STATE = np.linspace(0.1, 0.9, 14)


def observation(**images):
    return {"state": STATE, "images": {"cam_high": IMAGE, **images}, "prompt": "fold"}


def test_names_cameras_as_the_model_does():
    view = aloha.model_view(observation(cam_left_wrist=IMAGE, cam_low=IMAGE))
    assert list(view.images) == ["base_0_rgb", "left_wrist_0_rgb"]
    assert view.images["base_0_rgb"].shape == (4, 6, 3)
    assert view.instruction == "fold"


def test_rejects_unknown_and_missing_cameras():
    with pytest.raises(ObservationError, match="cam_belly"):
        aloha.model_view(observation(cam_belly=IMAGE))
    with pytest.raises(ObservationError, match="cam_high"):
        aloha.model_view({"state": STATE, "images": {"cam_low": IMAGE}})


def test_reverses_shoulders_and_elbows():
    turned = aloha.pi_state(STATE) / STATE
    arm = [1, -1, -1, 1, 1, 1]
    np.testing.assert_allclose(turned[[0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]], arm * 2)


@given(st.floats(-1, 2))
def test_training_actions_invert_robot_actions(command):
    chunk = np.full((2, 14), command)
    np.testing.assert_allclose(aloha.robot_actions(aloha.pi_actions(chunk)), chunk, atol=1e-12)


def test_gripper_angle_solves_the_triangle_of_horn_and_rod():
    opening = np.linspace(0.05, 0.8, 9)
    angle = aloha.pi_gripper_from_opening(opening) * (1.6296 - 0.5476) + 0.5476
    finger = opening * (0.05800 - 0.01844) + 0.01844
    # Law of cosines: the rod spans between the end of the horn and the finger.
    rod = np.sqrt(0.022**2 + finger**2 - 2 * 0.022 * finger * np.cos(np.pi / 2 - angle))
    np.testing.assert_allclose(rod, 0.036, rtol=1e-9)


def test_raw_models_read_and_write_raw_numbers():
    np.testing.assert_array_equal(aloha.model_view(observation(), aloha.RAW_ALOHA).state, STATE)
    padded = np.arange(64.0).reshape(2, 32)
    np.testing.assert_array_equal(aloha.RAW_ALOHA.robot_actions(padded), padded[:, :14])


def test_conversions_leave_their_arguments_unchanged():
    state, actions = STATE.copy(), np.ones((2, 32))
    aloha.pi_state(state)
    aloha.ALOHA.robot_actions(actions)
    np.testing.assert_array_equal(state, STATE)
    np.testing.assert_array_equal(actions, 1.0)


def test_suite_adapter_gives_the_pi_state_and_clips_to_the_servos():
    adapter, task = aloha.ALOHA_SIM, suite("aloha_sim").tasks()[0]
    env = create_autospec(Env, instance=True)
    env.state.return_value = STATE.astype(np.float32)
    env.spec = task
    query = adapter.query(env, PRESETS["pi0_aloha_sim"].spec(), {"top": IMAGE.transpose(1, 2, 0)}, "go", 0)
    np.testing.assert_allclose(query.state, aloha.pi_state(STATE), atol=1e-6)
    wanted = np.clip(STATE, task.action_low, task.action_high)
    padded = np.zeros(32, np.float32)
    padded[:14] = aloha.pi_actions(wanted)
    np.testing.assert_allclose(adapter.actions(task, padded[None])[0], wanted, atol=1e-6)
    far = adapter.actions(task, np.full((2, 32), 9, np.float32))
    assert np.all((far >= np.float32(task.action_low)) & (far <= np.float32(task.action_high)))
