"""Sensitivity indices of policies whose dependence on perturbations is known."""

import math

import numpy as np
import pytest

from simloop.results.statistics.designs import Design
from simloop.results.statistics.sensitivity import sensitivities
from tests.helpers.simulated_policies import outcomes, true_indices

AXES = (("camera-noise", 0.5), ("light-dim", 1.0), ("state-noise", 0.1))


def indices(design, tasks, episodes, seed, resamples=200):
    rng = np.random.default_rng(seed)
    drawn = outcomes(design, tasks, episodes, rng)
    arms = drawn.reshape(len(design.axes) + 2, design.size, -1).transpose(1, 0, 2)
    return sensitivities(arms, np.repeat(np.arange(tasks), episodes), rng, resamples=resamples)


def test_the_axis_that_decides_is_told_from_one_that_changes_nothing():
    strong, weak, none = indices(Design("sobol", AXES, 64), 1, 20, seed=0)
    assert strong.first.interval.low > 0.6
    assert strong.first.value > weak.first.value
    assert none.total.value == pytest.approx(0.0, abs=0.02)
    assert none.total.interval.high < 0.1


def test_the_noise_of_few_episodes_does_not_pass_for_sensitivity():
    values = [
        [
            index.total.value
            for index in indices(Design("sobol", AXES, 64, seed=seed), 1, 8, seed, resamples=9)
        ]
        for seed in range(40)
    ]
    error = np.std(values, axis=0) / math.sqrt(40)
    np.testing.assert_array_less(abs(np.mean(values, axis=0) - true_indices()[1]), 4 * error + 0.02)


def test_a_policy_that_never_fails_has_no_indices():
    assert (
        sensitivities(np.ones((8, 4, 6)), np.zeros(6, np.int64), np.random.default_rng(0), resamples=9)
        is None
    )


def test_too_few_episodes_are_refused():
    with pytest.raises(ValueError, match="at least 4 episodes of every task"):
        sensitivities(np.ones((8, 4, 3)), np.zeros(3, np.int64), np.random.default_rng(0))


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("size", "tasks", "episodes"), [(32, 1, 20), (32, 4, 5), (64, 2, 10)])
def test_the_true_indices_lie_in_their_intervals_in_95_percent_of_200_designs(size, tasks, episodes):
    designs, truth = 200, true_indices()
    held, wide = np.zeros(truth.shape), np.zeros(truth.shape)
    for seed in range(designs):
        found = indices(Design("sobol", AXES, size, seed=seed), tasks, episodes, seed, resamples=300)
        for axis, one in enumerate(found or ()):
            for kind, index in enumerate((one.first, one.total)):
                held[kind, axis] += index.interval.low <= truth[kind, axis] <= index.interval.high
                wide[kind, axis] += index.interval.width
    print(
        f"\n{size} base points, {tasks} tasks of {episodes} episodes; true indices {truth.round(3).tolist()}"
    )
    print(
        f"| held in % | {(100 * held / designs).round(1).tolist()} | mean width {(wide / designs).round(2).tolist()} |"
    )
    assert (held / designs).min() >= 0.95 - 2.5 * math.sqrt(0.95 * 0.05 / designs)
