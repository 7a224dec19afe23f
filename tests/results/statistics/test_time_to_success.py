"""Time to success: failures are censored, and intervals cover."""

import numpy as np
import pytest

from simloop.results.statistics.intervals import wilson
from simloop.results.statistics.time_to_success import restricted_mean, success_by_step

STEPS = np.array([10, 20, 20, 30, 50])
SUCCEEDED = np.array([True, True, False, True, False])


def test_curve_equals_kaplan_meier():
    curve = success_by_step(STEPS, SUCCEEDED)
    # By hand: 4/5 are left after 10, three quarters of them after 20, half of those after 30.
    assert curve.steps.tolist() == [0, 10, 20, 30, 50]
    assert curve.share == pytest.approx([0, 1 - 4 / 5, 1 - 4 / 5 * 3 / 4, 1 - 4 / 5 * 3 / 4 / 2, 0.7])
    assert (curve.low <= curve.share).all()
    assert (curve.share <= curve.high).all()


def test_curve_is_the_share_of_successes_if_failures_reach_the_limit():
    steps = np.array([5, 9, 9, 40, 40])
    curve = success_by_step(steps, steps < 40)
    assert curve.share == pytest.approx([0, 0.2, 0.6, 0.6])


@pytest.mark.parametrize(
    ("all_succeed", "low", "high"), [(False, 0.0, wilson(0, 8).high), (True, wilson(8, 8).low, 1.0)]
)
def test_equal_outcomes_leave_intervals_of_nonzero_width(all_succeed, low, high):
    curve = success_by_step(np.full(8, 30), np.full(8, all_succeed))
    assert (curve.share[-1], curve.low[-1], curve.high[-1]) == pytest.approx((float(all_succeed), low, high))


def test_mean_is_the_area_under_the_curve():
    steps = np.array([10, 20, 100, 30, 100])
    succeeded = steps < 100
    curve = success_by_step(steps, succeeded)
    area = np.sum((1 - curve.share) * np.diff(np.append(curve.steps, 100)))
    mean, interval = restricted_mean(steps, succeeded, 100)
    assert mean == pytest.approx(area) == pytest.approx(steps.mean())
    assert mean in interval


def test_failing_slow_episodes_makes_no_policy_faster():
    steps = np.array([20, 30, 90, 95])
    slow, _ = restricted_mean(steps, np.full(4, True), 100)
    failing, _ = restricted_mean(np.array([20, 30, 100, 100]), np.array([True, True, False, False]), 100)
    assert slow < failing


@pytest.mark.parametrize(("n", "rate"), [(10, 0.1), (10, 0.5), (10, 0.9), (10, 0.97), (50, 0.5), (50, 0.97)])
def test_intervals_of_the_mean_cover(n, rate):
    rng = np.random.default_rng(0)

    def drawn(count):
        times = np.maximum(1, np.round(rng.gamma(4, 15, size=count)))
        return np.where((rng.random(count) < rate) & (times < 300), times, 300).astype(np.int64)

    truth = drawn(400_000).mean()
    runs = [drawn(n) for _ in range(500)]
    covered = [truth in restricted_mean(steps, steps < 300, 300)[1] for steps in runs]
    assert np.mean(covered) >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / 500)


def test_rejects_empty_input():
    for call in (lambda *a: success_by_step(*a), lambda *a: restricted_mean(*a, 10)):
        with pytest.raises(ValueError, match="at least one completed episode"):
            call(np.zeros(0, np.int64), np.zeros(0, bool))


def test_without_success_the_mean_is_the_limit():
    mean, interval = restricted_mean(np.full(10, 100), np.zeros(10, bool), 100)
    assert (mean, interval.low, interval.high) == pytest.approx((100, 100 * (1 - wilson(0, 10).high), 100))
