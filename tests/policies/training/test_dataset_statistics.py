"""Statistics of the images of a dataset."""

from pathlib import Path

import numpy as np
import pytest

from simloop.policies.training.dataset_statistics import data_image_stats
from simloop.policies.training.prepared import PreparedData

FRAMES = 5


def data(brightness):
    """Episodes of frames of one grey each."""
    greys = np.repeat(np.array(brightness, np.uint8), FRAMES)
    numbers = np.zeros((len(greys), 1), np.float32)
    return PreparedData(
        folder=Path(),
        states=numbers,
        actions=numbers,
        environment_states=numbers,
        task_of_frame=np.zeros(len(greys), np.int64),
        episode_end=np.repeat(np.arange(1, len(brightness) + 1) * FRAMES, FRAMES),
        frames={"top": np.tile(greys[:, None, None, None], (1, 16, 16, 3))},
        instructions=("go",),
        seeds={},
        episodes=len(brightness),
        fps=10.0,
        sha256="",
    )


def test_distances_are_those_of_episodes_that_the_distribution_was_not_fitted_to():
    stats = data_image_stats(data([100, 200, 100, 200]))["top"]
    np.testing.assert_allclose(stats.mean, 100 / 255)
    # 100 of 255 in every entry, in units of the least deviation of 1 of 255.
    assert stats.distances[[0, -1]] == pytest.approx(100, rel=1e-3)


def test_a_single_episode_is_fitted_and_measured_as_a_whole():
    stats = data_image_stats(data([100]))["top"]
    assert stats.distances[-1] == pytest.approx(0, abs=1e-6)
