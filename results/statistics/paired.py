"""Two policies on the same episodes: tests, intervals and equivalence from paired outcomes.

Policies meet the same initial states, so outcomes come in pairs, and only episodes where exactly
one policy succeeded tell the two apart. Pairs of several tasks are added up, which keeps each
comparison within its task: the stratified McNemar test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar

from simloop.results.statistics.intervals import Interval, wilson


@dataclass(frozen=True)
class Pairs:
    """How often which of two policies succeeded in the same episode."""

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    neither: int = 0

    def __post_init__(self) -> None:
        """Refuse negative counts."""
        if min(self.both, self.only_a, self.only_b, self.neither) < 0:
            raise ValueError(f"Counts of pairs are at least 0; got {self}.")

    @property
    def episodes(self) -> int:
        """Number of pairs."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def difference(self) -> float:
        """Success rate of a less that of b.

        Raises:
          ValueError: If there are no pairs.
        """
        self.check()
        return (self.only_a - self.only_b) / self.episodes

    def check(self) -> None:
        """Refuse to go on without pairs.

        Raises:
          ValueError: If there are none.
        """
        if not self.episodes:
            raise ValueError(
                "A difference needs at least one episode that both policies completed; got none."
            )

    def __add__(self, other: Pairs) -> Pairs:
        """The pairs of both, as of two tasks."""
        return Pairs(
            self.both + other.both,
            self.only_a + other.only_a,
            self.only_b + other.only_b,
            self.neither + other.neither,
        )


@dataclass(frozen=True)
class Equivalence:
    """Whether two rates differ by less than a margin, by two one-sided tests."""

    margin: float
    interval: Interval
    """Of the difference; it lies within ± margin just where the tests find equivalence."""
    p_value: float
    equivalent: bool


def mcnemar_exact(pairs: Pairs) -> float:
    """Two-sided p-value of equal success rates; never too small, and often twice too large.

    Reference: Q. McNemar (1947), doi:10.1007/BF02295996.
    """
    return float(mcnemar([[pairs.both, pairs.only_a], [pairs.only_b, pairs.neither]], exact=True).pvalue)


def mcnemar_mid_p(pairs: Pairs) -> float:
    """Two-sided mid-p-value of equal success rates: the default, close to its level also for few pairs.

    Reference: Fagerland, Lydersen and Laake (2013), doi:10.1186/1471-2288-13-91.
    """
    discordant = pairs.only_a + pairs.only_b
    fewer = min(pairs.only_a, pairs.only_b)
    tail, point = stats.binom.cdf(fewer, discordant, 0.5), stats.binom.pmf(fewer, discordant, 0.5)
    return min(1.0, float(2 * tail - point))


def tango(pairs: Pairs, *, confidence: float = 0.95) -> Interval:
    """Score interval for the difference of two paired rates: the default.

    Raises:
      ValueError: If there are no pairs.

    Reference: T. Tango (1998), doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B.
    """
    difference = pairs.difference
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def end(side: int) -> float:
        # The statistic falls from one end of [-1, 1] to the other and is 0 at the difference.
        if difference == side:
            return float(side)
        limit = side * (1 - 1e-12)
        return float(optimize.brentq(lambda d: _tango_statistic(pairs, d) + side * z, difference, limit))

    return Interval(end(-1), end(1))


def newcombe_paired(pairs: Pairs, *, confidence: float = 0.95) -> Interval:
    """Interval for the difference of two paired rates, from the Wilson interval of each.

    Raises:
      ValueError: If there are no pairs.

    Reference: R. G. Newcombe (1998), method 10,
    doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C.
    """
    pairs.check()
    n = pairs.episodes
    successes_a, successes_b = pairs.both + pairs.only_a, pairs.both + pairs.only_b
    of_a, of_b = wilson(successes_a, n, confidence=confidence), wilson(successes_b, n, confidence=confidence)
    down_a, up_a = successes_a / n - of_a.low, of_a.high - successes_a / n
    down_b, up_b = successes_b / n - of_b.low, of_b.high - successes_b / n

    product = successes_a * (n - successes_a) * successes_b * (n - successes_b)
    covariance: float = pairs.both * pairs.neither - pairs.only_a * pairs.only_b
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    phi = covariance / math.sqrt(product) if product else 0.0
    return Interval(
        pairs.difference - math.sqrt(down_a**2 - 2 * phi * down_a * up_b + up_b**2),
        pairs.difference + math.sqrt(up_a**2 - 2 * phi * up_a * down_b + down_b**2),
    )


def equivalence(pairs: Pairs, margin: float = 0.02, *, alpha: float = 0.05) -> Equivalence:
    """Two one-sided score tests of whether the rates differ by less than `margin`.

    For claims of no change: a reproduction, a faster engine, quantised weights. Not finding a
    difference is none; this is.

    Raises:
      ValueError: If there are no pairs, or the margin is not in (0, 1).

    Reference: D. J. Schuirmann (1987), doi:10.1007/BF01068419, with Tango's statistic.
    """
    pairs.check()
    if not 0 < margin < 1:
        raise ValueError(f"The margin of equivalence is a difference of rates in (0, 1); got {margin}.")
    normal = NormalDist()
    p_value = max(
        normal.cdf(-_tango_statistic(pairs, -margin)),  # Against a being worse by the margin or more,
        normal.cdf(_tango_statistic(pairs, margin)),  # and against its being better by that.
    )
    interval = tango(pairs, confidence=1 - 2 * alpha)
    return Equivalence(margin, interval, p_value, p_value < alpha)


def _tango_statistic(pairs: Pairs, difference: float) -> float:
    """How many standard errors the observed difference lies above a supposed one."""
    n, b, c = pairs.episodes, pairs.only_a, pairs.only_b
    linear = (2 * n - b + c) * difference - b - c
    constant = -c * difference * (1 - difference)
    # Likeliest share of episodes in which only b succeeds, given the difference.
    only_b = (math.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
    variance = n * (2 * only_b + difference * (1 - difference))
    excess = b - c - n * difference
    if variance <= 0:
        return 0.0 if excess == 0 else math.copysign(math.inf, excess)
    return excess / math.sqrt(variance)
