"""Tests, intervals and equivalence of two policies from paired outcomes.

Policies start from the same initial states, so their outcomes are paired, and only discordant pairs, in which one
policy succeeded, are informative. Pairs are counted within tasks and summed: the stratified McNemar test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import scipy

from simloop.results.statistics.intervals import Interval


@dataclass(frozen=True)
class Pairs:
    """Numbers of episodes in which both policies, one of them, or neither succeeded.

    Whole numbers, except from `task_weighted`.
    """

    both: int | float = 0
    only_a: int | float = 0
    only_b: int | float = 0
    neither: int | float = 0

    def __post_init__(self) -> None:
        """Check the counts."""
        if min(self.both, self.only_a, self.only_b, self.neither) < 0:
            raise ValueError(f"Wanted counts of at least 0; got {self}.")

    @classmethod
    def task_weighted(cls, by_task: Sequence[Pairs]) -> Pairs:
        """Pool the pairs of several tasks with equal weights; the sum of the counts if all tasks have as many pairs.

        Shares are means over the tasks. The number of pairs is the harmonic mean of theirs times the number of tasks,
        as for `simloop.results.statistics.intervals.pooled_wilson`.

        Raises:
          ValueError: If a task has no pairs.
        """
        if not by_task or not all(pairs.episodes for pairs in by_task):
            raise ValueError(f"Wanted at least one pair of each task; got {list(by_task)}.")
        if len({pairs.episodes for pairs in by_task}) == 1:
            return sum(by_task, cls())
        scale = len(by_task) / sum(1 / pairs.episodes for pairs in by_task)

        def total(counts: Iterable[int | float]) -> float:
            return scale * sum(x / pairs.episodes for x, pairs in zip(counts, by_task, strict=True))

        return cls(
            total(pairs.both for pairs in by_task),
            total(pairs.only_a for pairs in by_task),
            total(pairs.only_b for pairs in by_task),
            total(pairs.neither for pairs in by_task),
        )

    @property
    def episodes(self) -> int | float:
        """Number of pairs."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def difference(self) -> float:
        """Success rate of a less that of b.

        Raises:
          ValueError: If there are no pairs.
        """
        if not self.episodes:
            raise ValueError("Wanted at least one episode that both policies completed; got none.")
        return (self.only_a - self.only_b) / self.episodes

    def __add__(self, other: Pairs) -> Pairs:
        """Sum the counts, as of two tasks."""
        return Pairs(
            self.both + other.both,
            self.only_a + other.only_a,
            self.only_b + other.only_b,
            self.neither + other.neither,
        )


@dataclass(frozen=True)
class Equivalence:
    """Result of two one-sided tests of whether two rates differ by less than a margin."""

    margin: float
    interval: Interval
    """Of the difference; within ± margin if the rates are equivalent."""
    confidence: float
    """Of the interval."""
    p_value: float | None
    """Of the two one-sided tests; None for a confidence sequence."""
    equivalent: bool
    """At the level of this comparison alone."""
    p_value_with_errors: float = 0.0
    """The largest `p_value` for any outcome of the errors; 1 if one of them is no comparison. 0 without errors."""

    @property
    def decisive_p_value(self) -> float | None:
        """The p-value that decides whether the rates are equivalent, whatever the errors would have been."""
        return None if self.p_value is None else max(self.p_value, self.p_value_with_errors)


def mcnemar_exact(pairs: Pairs) -> float:
    """Two-sided exact p-value of equal success rates; conservative, often by a factor of two.

    Reference: Q. McNemar (1947), doi:10.1007/BF02295996.
    """
    return min(1.0, 2 * _fewer_by_chance(pairs))


def mcnemar_mid_p(pairs: Pairs) -> float:
    """Two-sided mid-p-value of equal success rates, the default: close to its level also for few pairs.

    Reference: Fagerland, Lydersen and Laake (2013), doi:10.1186/1471-2288-13-91.
    """
    return min(1.0, _fewer_by_chance(pairs) + _fewer_by_chance(pairs, strictly=True))


def tango(pairs: Pairs, *, confidence: float = 0.95) -> Interval:
    """Score interval for the difference of two paired rates, a less b.

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
        return float(
            scipy.optimize.brentq(lambda d: _tango_statistic(pairs, d) + side * z, difference, limit)
        )

    return Interval(end(-1), end(1))


def equivalence(pairs: Pairs, margin: float = 0.02, *, alpha: float = 0.05) -> Equivalence:
    """Test by two one-sided score tests whether the rates differ by less than `margin`.

    Supports claims of no change, such as a reproduction or quantized weights, which a non-significant difference
    does not.

    Raises:
      ValueError: If there are no pairs, or the margin is not in (0, 1).

    Reference: D. J. Schuirmann (1987), doi:10.1007/BF01068419, with Tango's statistic.
    """
    if not 0 < margin < 1:
        raise ValueError(f"Wanted a margin of equivalence in (0, 1); got {margin}.")
    confidence, normal = 1 - 2 * alpha, NormalDist()
    interval = tango(pairs, confidence=confidence)
    p_value = max(
        normal.cdf(-_tango_statistic(pairs, -margin)),  # Null hypothesis: a is worse by the margin or more.
        normal.cdf(_tango_statistic(pairs, margin)),  # Null hypothesis: a is better by the margin or more.
    )
    return Equivalence(margin, interval, confidence, p_value, p_value < alpha)


def _fewer_by_chance(pairs: Pairs, *, strictly: bool = False) -> float:
    """Probability that a fair coin gives at most, or less than, the smaller number of discordant pairs to one side."""
    discordant, fewer = pairs.only_a + pairs.only_b, min(pairs.only_a, pairs.only_b) - strictly
    return float(scipy.special.bdtr(fewer, discordant, 0.5)) if fewer >= 0 else 0.0


def _tango_statistic(pairs: Pairs, difference: float) -> float:
    """Distance of the observed from a hypothesised difference, in standard errors under the hypothesis."""
    n, b, c = pairs.episodes, pairs.only_a, pairs.only_b
    linear = (2 * n - b + c) * difference - b - c
    constant = -c * difference * (1 - difference)
    # Maximum-likelihood share of episodes in which only b succeeds, given the difference.
    only_b = (math.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
    variance = n * (2 * only_b + difference * (1 - difference))
    excess = b - c - n * difference
    if variance <= 0:
        return 0.0 if excess == 0 else math.copysign(math.inf, excess)
    return excess / math.sqrt(variance)
