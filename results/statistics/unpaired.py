"""Tests and intervals for two success rates from different episodes, such as a measured and a published rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import scipy

from simloop.results.statistics.intervals import Interval, suite_mean

# An exact test enumerates all tables with these numbers of episodes. Beyond this number of tables it takes seconds,
# and the score test is as good, unless one policy has very few episodes.
EXACT_TABLES = 100_000


def miettinen_nurminen(
    successes_a: int, episodes_a: int, successes_b: int, episodes_b: int, *, confidence: float = 0.95
) -> Interval:
    """Score interval for the difference of two rates, a less b; consistent with `score_p_value`.

    statsmodels 0.15 implements it too, but fails if both rates are 0 or 1, and gives (.0526, .3440) for 56 of 70
    against 48 of 80, where Newcombe (1998) publishes (.0528, .3382).

    Raises:
      ValueError: If a policy has no episodes, or more successes than episodes.

    Reference: O. Miettinen and M. Nurminen (1985), doi:10.1002/sim.4780040211.
    """
    table = _checked(successes_a, episodes_a, successes_b, episodes_b)
    difference = successes_a / episodes_a - successes_b / episodes_b
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def end(side: int) -> float:
        # The statistic falls from one end of [-1, 1] to the other and is 0 at the difference.
        if difference == side:
            return float(side)
        limit = side * (1 - 1e-9)
        return float(scipy.optimize.brentq(lambda d: _score(*table, d) + side * z, difference, limit))

    return Interval(end(-1), end(1))


def score_p_value(successes_a: int, episodes_a: int, successes_b: int, episodes_b: int) -> float:
    """Two-sided p-value of equal rates by the asymptotic score test.

    Raises:
      ValueError: If a policy has no episodes, or more successes than episodes.

    Reference: O. Miettinen and M. Nurminen (1985), doi:10.1002/sim.4780040211.
    """
    table = _checked(successes_a, episodes_a, successes_b, episodes_b)
    return 2 * NormalDist().cdf(-abs(_score(*table, 0.0)))


def barnard(successes_a: int, episodes_a: int, successes_b: int, episodes_b: int) -> float:
    """Two-sided p-value of equal rates by Barnard's exact test, the maximum over all common rates.

    Raises:
      ValueError: If a policy has no episodes, or more successes than episodes.

    Reference: G. A. Barnard (1947), doi:10.1093/biomet/34.1-2.123.
    """
    return float(scipy.stats.barnard_exact(_table(successes_a, episodes_a, successes_b, episodes_b)).pvalue)


@lru_cache(maxsize=4096)  # Success tables repeat the same counts, and the exact test is slow.
def unpaired_p_value(successes_a: int, episodes_a: int, successes_b: int, episodes_b: int) -> float:
    """Two-sided p-value of equal rates: Barnard's exact test, or the score test for many episodes.

    Raises:
      ValueError: If a policy has no episodes, or more successes than episodes.
    """
    few = (episodes_a + 1) * (episodes_b + 1) <= EXACT_TABLES
    return (barnard if few else score_p_value)(successes_a, episodes_a, successes_b, episodes_b)


def margin_p_value(
    successes_a: int, episodes_a: int, successes_b: int, episodes_b: int, margin: float
) -> float:
    """p-value of two one-sided score tests that the rates differ by less than `margin`.

    Raises:
      ValueError: If a policy has no episodes, or more successes than episodes.

    Reference: D. J. Schuirmann (1987), doi:10.1007/BF01068419, with the statistic of
    `miettinen_nurminen`.
    """
    table = _checked(successes_a, episodes_a, successes_b, episodes_b)
    cdf = NormalDist().cdf
    return max(cdf(-_score(*table, -margin)), cdf(_score(*table, margin)))


def cochran_mantel_haenszel(
    successes_a: Sequence[int],
    episodes_a: Sequence[int],
    successes_b: Sequence[int],
    episodes_b: Sequence[int],
) -> float:
    """Two-sided exact p-value of equal rates on every task, from unpaired episodes of several tasks.

    The Cochran-Mantel-Haenszel test with its exact distribution: given the successes and episodes of every task, the
    number of successes of a policy is a sum of independent hypergeometric numbers. The p-value is the probability of
    all sums that are at most as probable as the observed one. Policies are compared within tasks, so tasks may differ
    in difficulty and in their numbers of episodes.

    The usual normal approximation calls 4 of 4 against 0 of 4 successes over four tasks a difference at p = 0.046; the
    exact value is 0.125.

    Raises:
      ValueError: If a task has no episodes of a policy, or more successes than episodes.

    References: N. Mantel and W. Haenszel (1959), doi:10.1093/jnci/22.4.719; for the exact distribution, J. J. Gart
    (1970), doi:10.1093/biomet/57.3.471.
    """
    share, least, observed = np.ones(1), 0, 0
    for x_a, n_a, x_b, n_b in map(_checked, successes_a, episodes_a, successes_b, episodes_b):
        low, high = max(0, x_a + x_b - n_b), min(n_a, x_a + x_b)
        own = scipy.stats.hypergeom(n_a + n_b, x_a + x_b, n_a).pmf(np.arange(low, high + 1))
        share, least, observed = np.convolve(share, own), least + low, observed + x_a
    # Sums as probable as the observed one differ from it by rounding.
    as_extreme = share <= share[observed - least] * (1 + 1e-9)
    return min(1.0, float(share[as_extreme].sum()))


def newcombe_of_means(
    successes_a: Sequence[int],
    episodes_a: Sequence[int],
    successes_b: Sequence[int],
    episodes_b: Sequence[int],
    *,
    confidence: float = 0.95,
) -> Interval:
    """Interval for the difference of two mean rates over the same tasks with equal weights, a less b.

    Newcombe's hybrid of the intervals of the two means (`simloop.results.statistics.intervals.suite_mean`). As wide
    as those: conservative if tasks differ much in difficulty.

    Raises:
      ValueError: If a task has no episodes, or more successes than episodes.

    Reference: method of variance estimates recovery, Zou and Donner (2008), doi:10.1002/sim.3095.
    """
    mean_a, of_a = suite_mean(successes_a, episodes_a, confidence=confidence)
    mean_b, of_b = suite_mean(successes_b, episodes_b, confidence=confidence)
    return Interval(
        mean_a - mean_b - math.hypot(mean_a - of_a.low, of_b.high - mean_b),
        mean_a - mean_b + math.hypot(of_a.high - mean_a, mean_b - of_b.low),
    )


def margin_p_of_means(
    x_a: Sequence[int], n_a: Sequence[int], x_b: Sequence[int], n_b: Sequence[int], margin: float
) -> float:
    """p-value of equivalence of two means.

    It is the smallest alpha at which the interval of `newcombe_of_means` with confidence 1 - 2 alpha lies in ± margin.
    """
    low, high = 1e-9, 0.5
    for _ in range(50):
        alpha = (low + high) / 2
        interval = newcombe_of_means(x_a, n_a, x_b, n_b, confidence=1 - 2 * alpha)
        if -margin < interval.low and interval.high < margin:
            high = alpha
        else:
            low = alpha
    return high if abs(difference_of_means(x_a, n_a, x_b, n_b)) < margin else 1.0


def difference_of_means(
    x_a: Sequence[int], n_a: Sequence[int], x_b: Sequence[int], n_b: Sequence[int]
) -> float:
    """Difference of the mean rates over tasks with equal weights."""
    shares = [x / n - y / m for x, n, y, m in zip(x_a, n_a, x_b, n_b, strict=True)]
    return sum(shares) / len(shares)


def _checked(
    successes_a: int, episodes_a: int, successes_b: int, episodes_b: int
) -> tuple[int, int, int, int]:
    for x, n in ((successes_a, episodes_a), (successes_b, episodes_b)):
        if n < 1 or not 0 <= x <= n:
            raise ValueError(f"Wanted 0 to n successes in n > 0 episodes of each policy; got {x} of {n}.")
    return successes_a, episodes_a, successes_b, episodes_b


def _table(successes_a: int, episodes_a: int, successes_b: int, episodes_b: int) -> list[list[int]]:
    """Contingency table with successes and failures as rows and policies as columns, as scipy's exact tests take it."""
    _checked(successes_a, episodes_a, successes_b, episodes_b)
    return [[successes_a, successes_b], [episodes_a - successes_a, episodes_b - successes_b]]


def _score(x_a: int, n_a: int, x_b: int, n_b: int, difference: float) -> float:
    """Distance of the observed from a hypothesised difference, in standard errors under the hypothesis."""
    n = n_a + n_b
    rate_b = _restricted_rate_b(x_a, n_a, x_b, n_b, difference)
    rate_a = min(1.0, max(0.0, rate_b + difference))
    variance = (rate_a * (1 - rate_a) / n_a + rate_b * (1 - rate_b) / n_b) * n / (n - 1)
    excess = x_a / n_a - x_b / n_b - difference
    if variance <= 0:
        return 0.0 if abs(excess) < 1e-12 else math.copysign(math.inf, excess)
    return excess / math.sqrt(variance)


def _restricted_rate_b(x_a: int, n_a: int, x_b: int, n_b: int, difference: float) -> float:
    """Maximum-likelihood rate of b given the difference: the middle root of the cubic likelihood equation."""
    n, x = n_a + n_b, x_a + x_b
    l3 = n
    l2 = (n_a + 2 * n_b) * difference - n - x
    l1 = (n_b * difference - n - 2 * x_b) * difference + x
    l0 = x_b * difference * (1 - difference)
    q = l2**3 / (3 * l3) ** 3 - l1 * l2 / (6 * l3**2) + l0 / (2 * l3)
    p = math.copysign(math.sqrt(max(l2**2 / (3 * l3) ** 2 - l1 / (3 * l3), 0.0)), q)
    cosine = min(1.0, max(-1.0, q / p**3)) if p else 0.0
    root = 2 * p * math.cos((math.pi + math.acos(cosine)) / 3) - l2 / (3 * l3)
    return min(1.0, max(0.0, root))
