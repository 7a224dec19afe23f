"""Where things are, as numbers to learn."""

import dataclasses

import numpy as np
import pytest

from simloop.policies.training.errors import TrainingError
from simloop.policies.training.prepared import prepare
from simloop.policies.training.state_prediction import locations
from tests.helpers.demonstrations import CAMERAS, small_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = small_dataset(tmp_path_factory.mktemp("data") / "points", episodes=3)
    return prepare(folder, {camera: f"observation.images.{camera}" for camera in CAMERAS}, 32)


def test_what_never_moves_is_not_asked_for_and_tasks_weigh_alike(data):
    wanted = locations(data)
    assert wanted.shape == (data.size, 2)
    for task in (0, 1):
        np.testing.assert_allclose(wanted[data.task_of_frame == task].mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(wanted.std(axis=0), 1.0, atol=1e-5)


def test_units_do_not_matter(data):
    in_millimetres = dataclasses.replace(data, environment_states=data.environment_states * 1000.0)
    np.testing.assert_allclose(locations(in_millimetres), locations(data), atol=1e-4)


def test_without_the_state_of_the_environment_there_is_nothing_to_learn(data):
    bare = dataclasses.replace(data, environment_states=np.zeros((data.size, 0), np.float32))
    with pytest.raises(TrainingError, match="Collect demonstrations"):
        locations(bare)


def test_a_state_that_is_not_finite_or_never_moves_is_refused(data):
    broken = data.environment_states.copy()
    broken[7, 0] = np.nan
    with pytest.raises(TrainingError, match="NaN or infinite in frame 7"):
        locations(dataclasses.replace(data, environment_states=broken))
    with pytest.raises(TrainingError, match="nothing to locate"):
        locations(dataclasses.replace(data, environment_states=np.ones_like(broken)))
