"""Comparison of policies on different episodes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simloop.results.statistics.unpaired import (
    barnard,
    miettinen_nurminen,
    newcombe_of_means,
    score_p_value,
    unpaired_p_value,
)


def newcombe(x_a, n_a, x_b, n_b):
    """Newcombe's interval for one task."""
    return newcombe_of_means([x_a], [n_a], [x_b], [n_b])


counts = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def rounded(interval, digits=4):
    return round(interval.low, digits), round(interval.high, digits)


def test_intervals_equal_published_values():
    # Newcombe (1998), table II, contrast (a).
    assert rounded(newcombe(56, 70, 48, 80)) == (0.0524, 0.3339)
    assert rounded(miettinen_nurminen(56, 70, 48, 80)) == (0.0528, 0.3382)
    assert rounded(newcombe(462, 500, 473, 500)) == (-0.0534, 0.0089)


@given(counts, counts)
def test_swapping_the_policies_mirrors_everything(a, b):
    for interval in (newcombe, miettinen_nurminen):
        one, other = interval(*a, *b), interval(*b, *a)
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-6)
        assert one.low - 1e-9 <= a[0] / a[1] - b[0] / b[1] <= one.high + 1e-9
        assert one.low >= -1
        assert one.high <= 1
    assert score_p_value(*a, *b) == pytest.approx(score_p_value(*b, *a))


@given(counts, counts)
def test_the_score_test_and_its_interval_agree(a, b):
    p = score_p_value(*a, *b)
    interval = miettinen_nurminen(*a, *b)
    assert abs(p - 0.05) < 1e-6 or (p < 0.05) == (0.0 not in interval)


def slow_score(x_a, n_a, x_b, n_b, difference):
    """The score statistic with the likeliest nuisance rate found on a grid."""
    rate_b = np.linspace(max(0.0, -difference), min(1.0, 1 - difference), 200_001)[1:-1]
    rate_a = rate_b + difference
    likelihood = stats.binom.logpmf(x_a, n_a, rate_a) + stats.binom.logpmf(x_b, n_b, rate_b)
    best = np.argmax(likelihood)
    n = n_a + n_b
    variance = rate_a[best] * (1 - rate_a[best]) / n_a + rate_b[best] * (1 - rate_b[best]) / n_b
    return (x_a / n_a - x_b / n_b - difference) / np.sqrt(variance * n / (n - 1))


@pytest.mark.parametrize("table", [(56, 70, 48, 80), (462, 500, 473, 500), (7, 10, 2, 10), (1, 20, 9, 15)])
def test_score_statistic_is_critical_at_the_ends_of_its_interval(table):
    interval = miettinen_nurminen(*table)
    assert slow_score(*table, interval.low) == pytest.approx(1.96, abs=2e-3)
    assert slow_score(*table, interval.high) == pytest.approx(-1.96, abs=2e-3)


def slow_exact_p(table, statistic):
    """Chance, at the worst common rate, of tables at least as extreme; `statistic` is large there."""
    _, n_a, _, n_b = table
    rates = np.linspace(0, 1, 1001)
    chance = np.zeros_like(rates)
    for i in range(n_a + 1):
        for j in range(n_b + 1):
            if statistic(i, n_a, j, n_b) >= statistic(*table) - 1e-9:
                chance += stats.binom.pmf(i, n_a, rates) * stats.binom.pmf(j, n_b, rates)
    return chance.max()


def pooled_z(x_a, n_a, x_b, n_b):
    rate = (x_a + x_b) / (n_a + n_b)
    error = np.sqrt(rate * (1 - rate) * (1 / n_a + 1 / n_b))
    return abs(x_a / n_a - x_b / n_b) / error if error else 0.0


@pytest.mark.parametrize("table", [(7, 10, 2, 10), (9, 12, 3, 8)])
def test_barnard_equals_a_slow_enumeration(table):
    # Written out, so that policies and outcomes cannot be mixed up in the table handed to scipy.
    assert barnard(*table) == pytest.approx(slow_exact_p(table, pooled_z), abs=1e-4)


def test_barnard_equals_its_known_value_for_seven_and_two_of_ten():
    assert barnard(7, 10, 2, 10) == pytest.approx(0.0414, abs=5e-5)
    # The value for a transposed table, which is sometimes quoted.
    assert stats.barnard_exact([[7, 3], [2, 8]]).pvalue == pytest.approx(0.0335, abs=5e-5)


def test_the_score_test_of_large_samples_lies_below_fishers_exact_one():
    assert stats.fisher_exact([[1937, 1954], [63, 46]]).pvalue == pytest.approx(0.1198, abs=5e-5)
    assert unpaired_p_value(1937, 2000, 1954, 2000) == pytest.approx(0.0988, abs=5e-5)


def test_uses_the_exact_test_for_few_episodes_and_the_score_test_for_many():
    assert unpaired_p_value(7, 10, 2, 10) == barnard(7, 10, 2, 10)
    assert unpaired_p_value(7, 10, 482, 500) == pytest.approx(0.016, abs=1e-3)
    assert unpaired_p_value(1937, 2000, 1954, 2000) == score_p_value(1937, 2000, 1954, 2000)
    assert score_p_value(1937, 2000, 1954, 2000) == pytest.approx(
        2 * stats.norm.sf(pooled_z(1937, 2000, 1954, 2000) * np.sqrt(3999 / 4000))
    )


@pytest.mark.parametrize("interval", [newcombe, miettinen_nurminen])
def test_unpaired_intervals_cover(interval):
    rng = np.random.default_rng(0)
    drawn = zip(rng.binomial(60, 0.9, 500).tolist(), rng.binomial(80, 0.8, 500).tolist(), strict=True)
    held = [0.1 in interval(a, 60, b, 80) for a, b in drawn]
    assert np.mean(held) == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize("call", [miettinen_nurminen, score_p_value, barnard, unpaired_p_value])
def test_rejects_impossible_counts(call):
    with pytest.raises(ValueError, match="got 5 of 0"):
        call(5, 0, 1, 2)
    with pytest.raises(ValueError, match="got 5 of 4"):
        call(1, 2, 5, 4)
