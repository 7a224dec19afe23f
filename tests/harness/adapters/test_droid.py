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


@pytest.mark.parametrize(
    ("convention", "preset"), [(droid.DROID, "pi05_droid"), (droid.DROID_FAST, "pi0_fast_droid")]
)
def test_names_cameras_as_the_presets_do(convention, preset):
    view = convention.model_view(OBSERVATION)
    assert tuple(view.images) == PRESETS[preset].cameras
    assert view.state.tolist() == [*range(7), 0.25]
    assert view.instruction == "wipe"
