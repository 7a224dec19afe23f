"""Paired comparisons: golden values, slow computations, and error rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simloop.results.statistics.paired import (
    Pairs,
    equivalence,
    mcnemar_exact,
    mcnemar_mid_p,
    tango,
)

AIRWAY = Pairs(1, 1, 7, 12)  # Hyperreactivity before and after transplantation: Fagerland et al. (2014).
LARGE = Pairs(440, 33, 22, 5)
SMALL = Pairs(43, 2, 0, 5)
tables = st.builds(Pairs, *(st.integers(0, 40) for _ in range(4))).filter(lambda pairs: pairs.episodes > 0)


def swapped(pairs):
    return Pairs(pairs.both, pairs.only_b, pairs.only_a, pairs.neither)


@pytest.mark.parametrize(
    ("pairs", "score", "exact", "mid_p"),
    [
        (AIRWAY, (-0.517, -0.026), 0.0703, 0.0391),
        (LARGE, (-0.0073, 0.0522), 0.177, 0.141),
        (SMALL, (-0.0342, 0.1346), 0.5, 0.25),
    ],
)
def test_statistics_equal_published_values(pairs, score, exact, mid_p):
    interval, digits = tango(pairs), 3 if pairs is AIRWAY else 4
    assert (round(interval.low, digits), round(interval.high, digits)) == score
    assert mcnemar_exact(pairs) == pytest.approx(exact, abs=5e-4)
    assert mcnemar_mid_p(pairs) == pytest.approx(mid_p, abs=5e-4)


@given(tables)
def test_swapping_the_policies_mirrors_everything(pairs):
    one, other = tango(pairs), tango(swapped(pairs))
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)
    assert -1 <= one.low <= pairs.difference <= one.high <= 1
    assert mcnemar_mid_p(pairs) == pytest.approx(mcnemar_mid_p(swapped(pairs)))


@given(tables)
def test_mid_p_is_smaller_than_the_exact_p(pairs):
    assert 0 <= mcnemar_mid_p(pairs) <= mcnemar_exact(pairs) <= 1
    discordant = pairs.only_a + pairs.only_b
    if discordant:
        assert mcnemar_exact(pairs) == pytest.approx(stats.binomtest(pairs.only_a, discordant).pvalue)


def slow_tango_statistic(pairs, difference):
    """The score statistic with the likeliest nuisance rate found on a grid."""
    n, b, c = pairs.episodes, pairs.only_a, pairs.only_b
    only_b = np.linspace(max(0.0, -difference), (1 - difference) / 2, 200_001)[1:-1]
    alike = 1 - 2 * only_b - difference
    likelihood = b * np.log(only_b + difference) + c * np.log(only_b) + (n - b - c) * np.log(alike)
    best = only_b[np.argmax(likelihood)]
    return (b - c - n * difference) / np.sqrt(n * (2 * best + difference - difference**2))


@pytest.mark.parametrize("pairs", [AIRWAY, LARGE, SMALL, Pairs(10, 3, 4, 2)])
def test_tangos_statistic_is_critical_at_the_ends_of_the_interval(pairs):
    interval = tango(pairs)
    assert slow_tango_statistic(pairs, interval.low) == pytest.approx(1.96, abs=2e-3)
    assert slow_tango_statistic(pairs, interval.high) == pytest.approx(-1.96, abs=2e-3)


def test_intervals_end_where_differences_do():
    assert tango(Pairs(0, 5, 0, 0)).high == 1.0
    assert tango(Pairs(0, 0, 5, 0)).low == -1.0
    # Without discordant pairs the ends have a closed form.
    z2 = stats.norm.isf(0.025) ** 2
    assert tango(Pairs(20, 0, 0, 10)).high == pytest.approx(z2 / (30 + z2))


def drawn(rng, runs, n, rate_a, rate_b, correlation):
    """Tables of n pairs of two policies whose outcomes are correlated."""
    both = rate_a * rate_b + correlation * np.sqrt(rate_a * (1 - rate_a) * rate_b * (1 - rate_b))
    shares = [both, rate_a - both, rate_b - both, 1 - rate_a - rate_b + both]
    return [Pairs(*map(int, row)) for row in rng.multinomial(n, shares, size=runs)]


def test_tangos_interval_covers():
    found = drawn(np.random.default_rng(0), 600, 60, 0.9, 0.8, 0.3)
    assert np.mean([0.1 in tango(pairs) for pairs in found]) == pytest.approx(0.95, abs=0.025)


def test_mcnemar_keeps_its_level_and_finds_differences():
    rng = np.random.default_rng(1)
    equal = drawn(rng, 1000, 200, 0.9, 0.9, 0.3)
    assert np.mean([mcnemar_mid_p(pairs) < 0.05 for pairs in equal]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([mcnemar_exact(pairs) < 0.05 for pairs in equal]) < 0.05
    different = drawn(rng, 300, 200, 0.9, 0.8, 0.3)
    assert np.mean([mcnemar_mid_p(pairs) < 0.05 for pairs in different]) > 0.85


@given(tables, st.floats(0.01, 0.5))
def test_equivalence_is_an_interval_within_the_margin(pairs, margin):
    found = equivalence(pairs, margin)
    inside = -margin < found.interval.low and found.interval.high < margin
    close = min(abs(found.interval.low + margin), abs(found.interval.high - margin)) < 1e-6
    assert close or found.equivalent == inside == (found.p_value < 0.05)


@pytest.mark.slow
def test_equivalence_is_rarely_found_at_the_margin():
    def found(rate_b, runs):
        tables = drawn(np.random.default_rng(2), runs, 2000, 0.90, rate_b, 0.3)
        return np.mean([equivalence(pairs, 0.03).equivalent for pairs in tables])

    assert found(0.87, 800) == pytest.approx(0.05, abs=0.02)
    assert found(0.90, 200) > 0.9


def test_no_difference_in_few_episodes_is_no_equivalence():
    assert mcnemar_mid_p(Pairs(9, 0, 0, 1)) == 1.0
    assert not equivalence(Pairs(9, 0, 0, 1)).equivalent
    assert equivalence(Pairs(1800, 0, 0, 200)).equivalent


@pytest.mark.parametrize("call", [tango, equivalence, lambda pairs: pairs.difference])
def test_rejects_empty_pairs(call):
    with pytest.raises(ValueError, match="at least one episode that both policies completed"):
        call(Pairs())


def test_rejects_margins_and_counts_out_of_range():
    with pytest.raises(ValueError, match="margin of equivalence"):
        equivalence(AIRWAY, 1.5)
    with pytest.raises(ValueError, match="at least 0"):
        Pairs(1, -1, 0, 0)
