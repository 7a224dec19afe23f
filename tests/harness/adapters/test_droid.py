import numpy as np
import pytest

from simloop.harness.adapters import droid
from simloop.policies.presets import PRESETS

IMAGE = np.zeros((4, 6, 3), np.uint8)
OBSERVATION = {
    "observation/exterior_image_1_left": IMAGE,
    "observation/wrist_image_left": IMAGE,
    "observation/joint_position": np.arange(7.0),
    "observation/gripper_position": np.float64(0.25),
    "prompt": b"wipe",
}


@pytest.mark.parametrize(("model", "preset"), [("flow", "pi05_droid"), ("fast", "pi0_fast_droid")])
def test_cameras_are_those_that_the_presets_ask_for(model, preset):
    view = droid.model_view(OBSERVATION, model)
    assert tuple(view.images) == PRESETS[preset].cameras
    assert view.state.tolist() == [*range(7), 0.25]
    assert view.instruction == "wipe"


def test_executed_velocities_are_bounded_and_the_gripper_is_open_or_closed():
    actions = np.array([[2.0, -3, 0.5, 0, 0, 0, 0, 0.51], [0, 0, 0, 0, 0, 0, 0, 0.5]])
    assert droid.executable_velocities(actions).tolist() == [[1, -1, 0.5, 0, 0, 0, 0, 1], [0] * 8]
