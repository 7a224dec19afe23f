"""Intervals: golden values, closed forms, and coverage."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import simloop.results.statistics.intervals
from simloop.results.statistics.intervals import (
    Interval,
    clopper_pearson,
    clustered_quantile_intervals,
    jeffreys,
    mover_wilson,
    pooled_wilson,
    quantile,
    task_bootstrap,
    wilson,
)

ONE_RATE = [wilson, clopper_pearson, jeffreys]
counts = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))

NEAR_CEILING = [0.90, 0.93, 0.95, 0.96, 0.97, 0.98, 0.98, 0.99, 0.99, 1.00]  # Mean .965.
HETEROGENEOUS = [0.05, 0.10, 0.20, 0.40, 0.60, 0.70, 0.80, 0.85, 0.85, 0.90]  # Mean .545.


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        (7, 10, 39.7, 89.2),
        (10, 10, 72.2, 100.0),
        (47, 50, 83.8, 97.9),
        (98, 100, 93.0, 99.4),
        (462, 500, 89.7, 94.4),
        (1937, 2000, 96.0, 97.5),
        (1954, 2000, 96.9, 98.3),
    ],
)
def test_wilson_equals_published_intervals(successes, episodes, low, high):
    interval = wilson(successes, episodes)
    assert (round(100 * interval.low, 1), round(100 * interval.high, 1)) == (low, high)


@given(counts, st.floats(0.5, 0.999))
def test_wilson_and_clopper_pearson_equal_scipy(count, confidence):
    test = stats.binomtest(*count)
    for ours, name in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theirs = test.proportion_ci(confidence, method=name)
        assert ours(*count, confidence=confidence).low == pytest.approx(theirs.low, abs=1e-9)
        assert ours(*count, confidence=confidence).high == pytest.approx(theirs.high, abs=1e-9)


def test_no_failures_give_the_rule_of_three():
    # One-sided 95 % is two-sided 90 %.
    assert 1 - clopper_pearson(100, 100, confidence=0.90).low == pytest.approx(1 - 0.05 ** (1 / 100))


@pytest.mark.parametrize("interval", ONE_RATE)
@given(counts)
def test_intervals_hold_the_rate_and_mirror_failures(interval, count):
    x, n = count
    found = interval(x, n)
    assert 0 <= found.low <= x / n <= found.high <= 1
    mirrored = interval(n - x, n)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-9)
    assert (found.low == 0) == (x == 0)
    assert (found.high == 1) == (x == n)


def exact_coverage(interval, n, rate):
    """How often an interval holds the rate: the sum over all outcomes."""
    held = [rate in interval(x, n) for x in range(n + 1)]
    return float(np.sum(stats.binom.pmf(np.arange(n + 1), n, rate) * held))


@pytest.mark.parametrize(
    ("interval", "coverages"),
    [
        (wilson, {10: 0.965, 50: 0.937, 500: 0.953}),
        (jeffreys, {10: 0.965, 50: 0.983, 500: 0.934}),
        (clopper_pearson, {10: 0.997, 50: 0.983, 500: 0.965}),
    ],
)
def test_coverage_at_high_rates_equals_known_values(interval, coverages):
    assert {n: round(exact_coverage(interval, n, 0.97), 3) for n in coverages} == coverages


def test_clopper_pearson_is_conservative_and_wilson_covers_on_average():
    rates = np.linspace(0.01, 0.99, 99)
    for n in (10, 25):
        assert min(exact_coverage(clopper_pearson, n, rate) for rate in rates) >= 0.95
        assert np.mean([exact_coverage(wilson, n, rate) for rate in rates]) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("interval", ONE_RATE)
@pytest.mark.parametrize(("successes", "episodes"), [(0, 0), (3, 2), (-1, 2)])
def test_rejects_impossible_counts(interval, successes, episodes):
    with pytest.raises(ValueError, match=f"got {successes} of {episodes}"):
        interval(successes, episodes)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_pooled_wilson_of_equal_tasks_is_wilson_of_all_episodes(successes):
    pooled = pooled_wilson(successes, [20] * len(successes))
    whole = wilson(sum(successes), 20 * len(successes))
    assert (pooled.low, pooled.high) == pytest.approx((whole.low, whole.high))


@given(counts)
def test_suite_intervals_of_one_task_equal_wilson(count):
    x, n = count
    own = wilson(x, n)
    for interval in (pooled_wilson([x], [n]), mover_wilson([x], [n])):
        assert (interval.low, interval.high) == pytest.approx((own.low, own.high), abs=1e-12)


def simulated(method, rates, episodes, runs=1500):
    """Coverage and mean width of an interval for a suite's mean, from a fixed seed."""
    episodes = np.broadcast_to(episodes, len(rates))
    drawn = np.random.default_rng(0).binomial(episodes, rates, size=(runs, len(rates)))
    found = [method(x.tolist(), episodes.tolist()) for x in drawn]
    mean = float(np.mean(rates))
    return np.mean([mean in interval for interval in found]), np.mean([interval.width for interval in found])


@pytest.mark.parametrize(
    ("method", "rates", "episodes", "coverage", "width"),
    [
        (pooled_wilson, NEAR_CEILING, 10, 0.983, 0.078),
        (pooled_wilson, NEAR_CEILING, 50, 0.957, 0.033),
        (pooled_wilson, HETEROGENEOUS, 10, 0.988, 0.191),
        (mover_wilson, NEAR_CEILING, 10, 0.882, 0.107),
        (mover_wilson, HETEROGENEOUS, 10, 0.959, 0.144),
        (mover_wilson, HETEROGENEOUS, 50, 0.947, None),
    ],
)
def test_coverage_of_suite_intervals_equals_known_values(method, rates, episodes, coverage, width):
    found, mean_width = simulated(method, rates, episodes)
    assert found == pytest.approx(coverage, abs=0.02)
    if width is not None:
        assert mean_width == pytest.approx(width, rel=0.08)


@pytest.mark.parametrize("rates", [NEAR_CEILING, HETEROGENEOUS])
def test_pooled_wilson_keeps_its_coverage_when_a_few_episodes_are_lost(rates):
    coverage, _ = simulated(pooled_wilson, rates, [50, 49, 50, 47, 50, 44, 50, 50, 45, 50])
    assert coverage >= 0.94


def test_mover_wilson_covers_for_unequal_numbers_of_episodes():
    rates, episodes = [0.5, 1.0], [10, 1000]
    assert simulated(mover_wilson, rates, episodes)[0] >= 0.94
    assert simulated(pooled_wilson, rates, episodes)[0] < 0.92


def test_mean_weighs_tasks_equally():
    for method in (pooled_wilson, mover_wilson):
        interval = method([500, 0], [1000, 1000]), method([500, 0], [1000, 100])
        assert all(0.25 in one and one.width < 0.1 for one in interval)


def test_task_bootstrap_rejects_a_single_task():
    with pytest.raises(ValueError, match="at least 2"):
        task_bootstrap([5], [10], np.random.default_rng(0))


def test_resampling_depends_only_on_its_generator():
    first, again = (task_bootstrap([3, 9, 7], [10] * 3, np.random.default_rng(5)) for _ in range(2))
    assert first == again


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.sampled_from([0.1, 0.5, 0.9, 0.95, 0.99]))
def test_quantile_is_the_smallest_value_with_enough_at_or_below(values, probability):
    slow = min(v for v in values if sum(w <= v for w in values) >= probability * len(values) - 1e-9)
    assert quantile(np.array(values, np.float64), probability) == slow


def clustered_latencies(rng, clusters, size):
    """Latencies of episodes, some of which are slow as a whole; each is lognormal."""
    shifts = np.repeat(rng.normal(0.0, 0.5, clusters), size)
    values = np.exp(shifts + rng.normal(0.0, 0.5, clusters * size))
    return values, np.repeat(np.arange(clusters), size)


def independent_interval(values, probability):
    """Interval for a quantile that ignores clusters."""
    return Interval(*stats.quantile_test(values, p=probability).confidence_interval(0.95))


def test_clustered_intervals_cover_where_independent_ones_do_not():
    rng = np.random.default_rng(3)
    truth = {p: float(np.exp(stats.norm.ppf(p) * math.sqrt(0.5))) for p in (0.5, 0.9)}
    held = {"clustered": 0, "independent": 0}
    for _ in range(150):
        values, clusters = clustered_latencies(rng, 40, 20)
        intervals = clustered_quantile_intervals(values, clusters, list(truth))
        for interval, (p, true) in zip(intervals, truth.items(), strict=True):
            held["clustered"] += true in interval
            held["independent"] += true in independent_interval(values, p)
    assert held["clustered"] / 300 >= 0.94
    assert held["independent"] / 300 < 0.75


def test_clusters_of_one_value_give_the_interval_of_independent_values():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    (found,) = clustered_quantile_intervals(values, np.arange(100), [0.5])
    assert found == independent_interval(values, 0.5) == Interval(40.0, 61.0)


def test_repeated_values_narrow_no_interval():
    values, clusters = clustered_latencies(np.random.default_rng(0), 60, 1)
    once = clustered_quantile_intervals(values, clusters, [0.5, 0.9])
    thrice = clustered_quantile_intervals(np.repeat(values, 3), np.repeat(clusters, 3), [0.5, 0.9])
    for one, other in zip(once, thrice, strict=True):
        assert other.width == pytest.approx(one.width, rel=0.25)
        assert other.width > 0.8 * one.width


def test_the_median_of_an_even_number_of_values_is_the_lower_middle_one():
    assert quantile(np.array([4.0, 1.0, 3.0, 2.0]), 0.5) == 2.0


def test_few_episodes_bound_no_high_quantile():
    values, clusters = clustered_latencies(np.random.default_rng(0), 5, 20)
    (found,) = clustered_quantile_intervals(values, clusters, [0.95])
    assert math.isinf(found.high)


def test_one_episode_bounds_no_latency():
    values = np.arange(100.0)
    found = clustered_quantile_intervals(values, np.zeros(100, np.int64), [0.5])
    assert found == [Interval(-math.inf, math.inf)]


def test_examples_in_docstrings_hold():
    assert doctest.testmod(simloop.results.statistics.intervals).failed == 0
