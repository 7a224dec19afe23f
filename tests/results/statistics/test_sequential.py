"""Sequential comparisons are valid at any number of looks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from simloop.results.statistics.paired import Pairs, mcnemar_mid_p, tango
from simloop.results.statistics.sequential import (
    StoppingRule,
    difference_sequence,
    e_process,
    log_e_values,
    within_margin,
)


def e_value(only_a, only_b):
    """The e-value of counts of discordant pairs."""
    return float(np.exp(log_e_values(np.array([float(only_a)]), np.array([float(only_b)])))[0])


def outcomes(seed, runs, n, rate_a, rate_b, correlation=0.3):
    """Runs of n pairs of outcomes of two policies that are correlated: two boolean arrays."""
    both = rate_a * rate_b + correlation * np.sqrt(rate_a * (1 - rate_a) * rate_b * (1 - rate_b))
    u = np.random.default_rng(seed).random((runs, n))
    return u < rate_a, (u < both) | ((u >= rate_a) & (u < rate_a + rate_b - both))


@pytest.mark.parametrize(("only_a", "only_b", "value"), [(1, 7, 3.352), (33, 22, 0.324), (2, 0, 1.5)])
def test_e_values_equal_known_values(only_a, only_b, value):
    assert e_value(only_a, only_b) == pytest.approx(value, abs=5e-4)


@given(st.integers(0, 15), st.integers(0, 15))
def test_e_value_is_a_mixture_of_likelihood_ratios(only_a, only_b):
    # With share = sin²(angle), Jeffreys' prior is uniform over the angle.
    ratio, _ = integrate.quad(
        lambda angle: np.sin(angle) ** (2 * only_a) * np.cos(angle) ** (2 * only_b), 0, np.pi / 2, epsabs=0
    )
    assert e_value(only_a, only_b) == pytest.approx(ratio * 2 / np.pi * 2.0 ** (only_a + only_b), rel=1e-6)


@pytest.mark.parametrize("n", [1, 5, 30])
def test_mean_e_value_of_equal_policies_is_one(n):
    chances = stats.binom.pmf(np.arange(n + 1), n, 0.5)
    assert chances @ [e_value(b, n - b) for b in range(n + 1)] == pytest.approx(1.0)


def test_e_process_ends_in_the_e_value_of_its_counts():
    a, b = outcomes(0, 1, 200, 0.8, 0.7)
    process = e_process(a[0], b[0])
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    assert process[-1] == pytest.approx(e_value(only_a, only_b))


def test_e_process_keeps_its_level_at_every_look():
    a, b = outcomes(1, 1000, 500, 0.9, 0.9)
    errors = np.mean([e_process(*run).max() >= 20 for run in zip(a, b, strict=True)])
    assert 0.01 < errors < 0.05

    # Looking at a test that was made for one look, every 10 episodes, errs far more often.
    def peeks(a, b):
        for stop in range(10, 501, 10):
            only_a, only_b = int((a & ~b)[:stop].sum()), int((~a & b)[:stop].sum())
            yield Pairs(0, only_a, only_b, stop - only_a - only_b)

    naive = [
        any(mcnemar_mid_p(pairs) <= 0.05 for pairs in peeks(*run))
        for run in zip(a[:150], b[:150], strict=True)
    ]
    assert np.mean(naive) > 0.15


@pytest.mark.parametrize(
    ("rates", "correlation", "power", "stop"),
    [((0.9, 0.8), 0.3, 0.992, 160), ((0.9, 0.85), 0.3, 0.475, None), ((0.9, 0.85), 0.6, 0.821, 280)],
)
def test_e_process_has_the_published_power(rates, correlation, power, stop):
    a, b = outcomes(2, 600, 500, *rates, correlation)
    found = np.array([e_process(*run) >= 20 for run in zip(a, b, strict=True)])
    assert found.any(axis=1).mean() == pytest.approx(power, abs=0.04)
    if stop is not None:
        stops = np.where(found.any(axis=1), found.argmax(axis=1) + 1, 500)
        assert stops.mean() == pytest.approx(stop, rel=0.08)


@pytest.mark.parametrize(("rate_a", "rate_b"), [(0.9, 0.9), (0.95, 0.7)])
def test_confidence_sequence_covers_at_every_pair(rate_a, rate_b):
    a, b = outcomes(4, 80, 300, rate_a, rate_b)
    held, widths = [], []
    for run in zip(a, b, strict=True):
        low, high = difference_sequence(*run)
        assert (np.diff(low) >= 0).all()
        assert (np.diff(high) <= 0).all()
        held.append(((low <= rate_a - rate_b) & (rate_a - rate_b <= high)).all())
        widths.append(high[-1] - low[-1])
    assert np.mean(held) >= 0.95
    # Validity at every moment costs width, but not a multiple of it.
    counts = [int(table.sum()) for table in (a[0] & b[0], a[0] & ~b[0], ~a[0] & b[0], ~a[0] & ~b[0])]
    assert np.mean(widths) < 2 * tango(Pairs(*counts)).width


def slow_capital(scores, mean, alpha):
    """Largest capital of bets on a higher or a lower mean, pair by pair, as the reference writes it."""
    up = down = 1.0
    total, squares, variance = 0.5, 0.25, 0.25
    largest = 0.0
    for count, score in enumerate(scores, start=1):
        stake = np.sqrt(2 * np.log(2 / alpha) / (variance * count * np.log(count + 1)))
        up *= 1 + min(stake, 0.5 / mean) * (score - mean)
        down *= 1 - min(stake, 0.5 / (1 - mean)) * (score - mean)
        largest = max(largest, up / 2, down / 2)
        total += score
        squares += (score - total / (count + 1)) ** 2
        variance = squares / (count + 1)
    return largest


def test_confidence_sequence_equals_a_slow_computation():
    a, b = outcomes(5, 1, 120, 0.8, 0.6)
    low, high = difference_sequence(a[0], b[0])
    scores = (a[0].astype(float) - b[0] + 1) / 2
    kept = [mean for mean in np.linspace(0.001, 0.999, 999) if slow_capital(scores, mean, 0.05) < 20]
    assert (2 * min(kept) - 1, 2 * max(kept) - 1) == pytest.approx((low[-1], high[-1]), abs=0.0021)


def test_rules_decide_early_and_correctly():
    rule = StoppingRule(margin=0.15, max_pairs=600)

    def decisions(rate_b):
        a, b = outcomes(6, 40, 600, 0.9, rate_b)
        return zip(*(rule.decide(*run) for run in zip(a, b, strict=True)), strict=True)

    said, counts = decisions(0.70)
    assert said.count("differ") >= 39
    assert np.mean(counts) < 120
    said, counts = decisions(0.90)
    assert said.count("equivalent") >= 36
    assert np.mean(counts) < 400
    said, _ = decisions(0.75)
    assert said.count("equivalent") <= 2


@pytest.mark.parametrize(("rate_a", "rate_b", "margin"), [(0.9, 0.9, 0.1), (0.5, 0.45, 0.2), (0.9, 0.5, 0.2)])
def test_within_margin_agrees_with_the_confidence_sequence(rate_a, rate_b, margin):
    a, b = outcomes(9, 5, 800, rate_a, rate_b)
    for one, other in zip(a, b, strict=True):
        low, high = difference_sequence(one, other)
        found = within_margin(one, other, margin)
        # The sequence keeps a step of its grid more on either side.
        assert (found | ~((low > -margin) & (high < margin))).all()
        assert (~found | ((low > -margin - 0.005) & (high < margin + 0.005))).all()


def test_later_pairs_do_not_change_a_decision():
    rule = StoppingRule(max_pairs=400)
    a, b = outcomes(7, 1, 400, 0.9, 0.7)
    decision, count = rule.decide(a[0], b[0])
    assert decision == "differ"
    assert rule.decide(a[0, :count], b[0, :count]) == (decision, count)
    assert rule.decide(a[0, : count - 1], b[0, : count - 1]) == ("continue", count - 1)


def test_rules_end_at_their_last_pair():
    a, b = outcomes(8, 1, 60, 0.9, 0.9)
    assert StoppingRule(max_pairs=50).decide(a[0], b[0]) == ("undecided", 50)
    assert StoppingRule(max_pairs=61).decide(a[0], b[0]) == ("continue", 60)
    assert StoppingRule().decide(a[0, :0], b[0, :0]) == ("continue", 0)


def test_rejects_rules_out_of_range():
    with pytest.raises(ValueError, match="alpha and margin"):
        StoppingRule(alpha=0.0)
