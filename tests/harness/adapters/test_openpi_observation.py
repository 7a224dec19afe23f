import numpy as np
import pytest

from simloop.harness.adapters.openpi_observation import (
    ModelView,
    ObservationError,
    filled_cameras,
    read_image,
    read_vector,
)
from simloop.policies.models.configs import FLOW_CAMERAS

IMAGE = np.full((4, 6, 3), 9, np.uint8)


@pytest.mark.parametrize("absent_counts", [True, False])
def test_absent_cameras_are_black(absent_counts):
    view = ModelView({"base_0_rgb": IMAGE}, np.zeros(3))
    images, masks = filled_cameras(view, FLOW_CAMERAS, absent_counts=absent_counts)
    assert list(images) == list(FLOW_CAMERAS)
    assert not images["right_wrist_0_rgb"].any()
    assert masks == {
        "base_0_rgb": True,
        "left_wrist_0_rgb": absent_counts,
        "right_wrist_0_rgb": absent_counts,
    }


def test_names_missing_entries():
    with pytest.raises(ObservationError, match=r"no 'state'; it has image, prompt"):
        read_vector({"image": IMAGE, "prompt": "go"}, "state", 3)
    with pytest.raises(ObservationError, match=r"no 'wrist'"):
        read_image({"image": IMAGE}, "wrist")


def test_rejects_vectors_of_another_length():
    with pytest.raises(ObservationError, match=r"state must be 3 .*shape \(4,\)"):
        read_vector({"state": np.zeros(4)}, "state", 3)


def test_reads_a_single_number_as_a_vector():
    assert read_vector({"gripper": np.float64(0.5)}, "gripper", 1).tolist() == [0.5]
