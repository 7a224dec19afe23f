"""Targets of state prediction."""

import dataclasses

import numpy as np
import pytest

from simloop.policies.training.errors import TrainingError
from simloop.policies.training.prepared import prepare
from simloop.policies.training.state_prediction import target_states
from tests.helpers.demonstrations import CAMERAS, small_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = small_dataset(tmp_path_factory.mktemp("data") / "points", episodes=3)
    return prepare(folder, {camera: f"observation.images.{camera}" for camera in CAMERAS}, 32)


def test_targets_are_standardised_within_tasks_without_constant_entries(data):
    targets = target_states(data)
    assert targets.shape == (data.size, 2)
    for task in (0, 1):
        np.testing.assert_allclose(targets[data.task_of_frame == task].mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(targets.std(axis=0), 1.0, atol=1e-5)


def test_targets_are_independent_of_units(data):
    in_millimetres = dataclasses.replace(data, environment_states=data.environment_states * 1000.0)
    np.testing.assert_allclose(target_states(in_millimetres), target_states(data), atol=1e-4)


def test_rejects_data_without_environment_states(data):
    bare = dataclasses.replace(data, environment_states=np.zeros((data.size, 0), np.float32))
    with pytest.raises(TrainingError, match="Collect demonstrations"):
        target_states(bare)


def test_rejects_states_that_are_not_finite_or_constant(data):
    broken = data.environment_states.copy()
    broken[7, 0] = np.nan
    with pytest.raises(TrainingError, match="NaN or infinite in frame 7"):
        target_states(dataclasses.replace(data, environment_states=broken))
    with pytest.raises(TrainingError, match="no state to predict"):
        target_states(dataclasses.replace(data, environment_states=np.ones_like(broken)))
