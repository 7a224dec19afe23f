"""Means of differences that depend on each other within clusters."""

import numpy as np
import pytest

from simloop.results.statistics.clustered import clustered_mean


def test_equals_the_mean_of_means_where_clusters_are_equally_large():
    """Student's interval of the cluster means, which is exact for equal clusters."""
    means = np.array([0.1, -0.3, -0.2, 0.0, -0.4])
    found = clustered_mean(np.repeat(means, 7), np.repeat(np.arange(5), 7))
    error = means.std(ddof=1) / 5**0.5
    assert found.difference == pytest.approx(means.mean())
    assert found.interval.width / 2 == pytest.approx(2.7764451 * error)
    assert found.clusters == 5


def test_copies_of_an_outcome_do_not_narrow_the_interval():
    values = np.array([0.0, -1.0, 0.0, -1.0])
    once = clustered_mean(values, np.arange(4))
    often = clustered_mean(np.repeat(values, 50), np.repeat(np.arange(4), 50))
    assert often.interval.width == pytest.approx(once.interval.width)


def test_clusters_that_agree_do_not_claim_certainty():
    found = clustered_mean(np.full(100, -1.0), np.repeat(np.arange(10), 10))
    assert (found.difference, found.interval.low) == (-1.0, -1.0)
    assert found.interval.high == pytest.approx(-1 + 2 * (1 - 0.025**0.1))
    assert found.p_value == pytest.approx(2 / 2**10)
    assert clustered_mean(np.zeros(4), np.arange(4)).p_value == 1.0


def test_one_cluster_bounds_nothing():
    assert clustered_mean(np.array([1.0, 0.0]), np.array([0, 0])) is None


@pytest.mark.slow
def test_intervals_cover_the_mean_of_dependent_differences():
    generator, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        lost = generator.uniform(0, 0.6, 20)
        differences = -(generator.random((20, 15)) < lost[:, None]).astype(float)
        covered += -0.3 in clustered_mean(differences.ravel(), np.repeat(np.arange(20), 15)).interval
    assert 0.93 < covered / 2000 < 0.97
