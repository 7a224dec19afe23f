"""Distances of images, states and actions from the training data."""

import dataclasses

import numpy as np

from simloop.policies.explaining.distances import action_distances, image_distances, state_distances
from simloop.policies.presets import PRESETS
from simloop.policies.transforms.image_statistics import ENTRIES, fit_image_stats
from simloop.policies.transforms.normalization import EntryStats

STATS = EntryStats(np.zeros(4), np.ones(4), q01=-2 * np.ones(4), q99=2 * np.ones(4))


def test_values_beyond_the_quantiles_are_measured_in_their_range():
    preset = PRESETS["pi05-tiny"]
    inside, above, below, edge = state_distances(preset, {"state": STATS}, np.array([0.5, 4.0, -3.0, 2.0]))
    assert (inside.overflow, inside.outside, inside.saturated) == (0, 0, False)
    assert (above.overflow, above.deviations, above.outside) == (0.5, 4.0, 1.0)
    assert below.overflow == 0.25
    assert not edge.saturated
    assert above.saturated, "the prompt has no bin for it"
    np.testing.assert_allclose([inside.model_low, above.model_low], [0.25, 2.0], atol=1e-5)


def test_states_outside_the_prompt_do_not_saturate():
    (first, *_) = state_distances(PRESETS["pi0-tiny"], {"state": STATS}, np.full(4, 9.0))
    assert first.deviations == 9.0
    assert not first.saturated


def test_the_share_of_a_chunk_outside_is_that_of_its_steps():
    chunk = np.zeros((4, 4), np.float32)
    chunk[0, 1] = 3.0
    none, one, *_ = action_distances(PRESETS["pi0-tiny"], {"actions": STATS}, chunk, np.zeros(4))
    assert (none.outside, one.outside, one.low, one.high) == (0.0, 0.25, 0.0, 3.0)


def test_relative_actions_are_compared_as_they_were_trained():
    preset = dataclasses.replace(PRESETS["pi0-tiny"], relative=(True,))
    chunk, state = np.full((2, 4), 7.0, np.float32), np.full(4, 7.0)
    relative, absolute, *_ = action_distances(preset, {"actions": STATS}, chunk, state)
    assert (relative.high, absolute.high) == (0.0, 7.0)


def test_without_statistics_there_is_no_distance():
    assert state_distances(PRESETS["pi0-tiny"], {}, np.zeros(4)) == []
    assert action_distances(PRESETS["pi0-tiny"], {"actions": STATS}, np.zeros((0, 4)), np.zeros(4)) == []


def test_images_of_cameras_with_statistics_are_placed_among_those_of_training():
    brightness = np.linspace(0.4, 0.6, 50)[:, None] * np.ones(ENTRIES)
    stats = {"top": fit_image_stats(brightness, brightness)}
    images = {name: np.full((16, 16, 3), 250, np.uint8) for name in ("top", "wrist")}
    (top,) = image_distances(stats, images)
    assert (top.camera, top.percentile) == ("top", 100.0)
    assert top.distance > top.largest > top.median > 0
    (middle,) = image_distances(stats, {"top": np.full((16, 16, 3), 128, np.uint8)})
    assert middle.percentile < 5
