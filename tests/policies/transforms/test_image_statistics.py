"""Distances of images from those of training, and their file."""

import json

import numpy as np
import pytest

from simloop.policies.transforms.image_statistics import (
    ENTRIES,
    ImageStatisticsError,
    averaged,
    fit_image_stats,
    image_stats_from_json,
    image_stats_to_json,
)

PATTERN = np.random.default_rng(1).normal(size=ENTRIES) * 0.02
"""What varies in the training images, beside noise."""


def training_images(count, seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, ENTRIES)) * 0.01
    return 0.5 + rng.normal(size=(count, 1)) * PATTERN + noise


def enlarged(entries):
    """An image of 32 x 32 pixels whose cells have these colours."""
    return np.uint8(np.round(255 * np.clip(entries, 0, 1))).reshape(8, 8, 3).repeat(4, 0).repeat(4, 1)


@pytest.fixture(scope="module")
def stats():
    return fit_image_stats(training_images(400, 0), training_images(400, 1))


def test_an_image_is_averaged_over_the_cells_of_a_grid():
    image = np.zeros((16, 24, 3), np.uint8)
    image[:2, :3] = 255
    image[0, 3:6, 0] = 102
    cells = averaged(image).reshape(8, 8, 3)
    np.testing.assert_allclose(cells[0, 0], 1)
    np.testing.assert_allclose(cells[0, 1], [0.2, 0, 0])
    assert not cells[1:].any()


def test_training_images_are_at_a_distance_of_one_and_their_percentiles_are_theirs(stats):
    others = [stats.distance(enlarged(entries)) for entries in training_images(200, 2)]
    assert np.mean(others) == pytest.approx(1, abs=0.05)
    assert np.mean([stats.percentile(one) for one in others]) == pytest.approx(50, abs=7)


def test_the_distance_along_what_varies_is_in_its_deviations(stats):
    far = stats.distance(enlarged(0.5 + 6 * PATTERN))
    # Six standard deviations along one of 192 directions, up to the error of the fit.
    assert far == pytest.approx(6 / np.sqrt(ENTRIES), abs=0.2)
    assert stats.distance(enlarged(0.5 + 0 * PATTERN)) < 0.3


def test_an_image_of_another_colour_is_beyond_all_training_images(stats):
    redder = training_images(1, 3)[0].reshape(-1, 3) + np.array([0.1, 0.0, 0.0])
    distance = stats.distance(enlarged(redder.ravel()))
    # A shift of 0.1 in a third of the entries, in units of the deviation of 0.01 that every direction has.
    assert distance == pytest.approx(np.sqrt(1 + 100 / 3), rel=0.1)
    assert stats.percentile(distance) == 100


def test_images_that_never_vary_have_a_finite_distance():
    grey = np.full((3, ENTRIES), 0.5)
    constant = fit_image_stats(grey, grey)
    assert constant.distance(np.full((8, 8, 3), 255, np.uint8)) == pytest.approx(0.5 * 255, rel=0.01)


def test_the_file_gives_the_same_distances(stats):
    (read,) = image_stats_from_json(image_stats_to_json({"top": stats})).values()
    image = enlarged(training_images(1, 4)[0])
    assert read.distance(image) == pytest.approx(stats.distance(image), rel=1e-3)
    np.testing.assert_allclose(read.distances, stats.distances, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rest": 0}, "rest"),
        ({"mean": [0.0]}, "wanted 192 entries"),
        ({"deviations": [1.0]}, "a deviation for each"),
        ({"distances": [2.0, 1.0]}, "101 ascending distances"),
        ({"another": 1}, "another"),
    ],
)
def test_impossible_statistics_are_refused(stats, changes, message):
    content = json.loads(image_stats_to_json({"top": stats}))
    content["top"] |= changes
    with pytest.raises(ImageStatisticsError, match=message):
        image_stats_from_json(json.dumps(content))
