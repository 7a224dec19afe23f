"""Whether a policy has become worse than others by more than a margin, for scripts that stop there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from simloop.results.statistics.contrasts import MARGIN, Contrast, contrast
from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.outcome_matrix import OutcomeMatrix

Verdict = Literal["worse", "not worse", "inconclusive"]


@dataclass(frozen=True)
class Regression:
    """A policy against another one that it may have become worse than."""

    policy: str
    baseline: str
    suite: str
    protocol: str
    difference: float
    """Success rate of the policy less that of the baseline, over completed episodes."""
    interval: Interval
    """Of the difference, whatever the outcomes of errors had been."""
    confidence: float
    """Of the interval; each of its ends is wrong with half the remaining probability, or all of it if `anytime`."""
    margin: float
    verdict: Verdict
    anytime: bool
    """Whether a stopping rule decides the number of episodes: the interval then holds at every look."""


def regressions(
    matrices: Sequence[OutcomeMatrix], policy: str, *, margin: float, alpha: float = 0.05
) -> list[Regression]:
    """Compare a policy with every other one of the matrices; those without a common episode are left out.

    The policy is *worse* if the interval of the difference lies below -margin, and *not worse* if it lies above. The
    probability that any of the verdicts *worse* is false is at most alpha, and so it is for *not worse*
    (Bonferroni). The intervals are those of `contrasts`: under a stopping rule, confidence sequences.

    Args:
      margin: Loss of success rate that is accepted, in [0, 1).

    Raises:
      ValueError: If the margin is not in [0, 1).
    """
    if not 0 <= margin < 1:
        raise ValueError(f"Wanted a margin in [0, 1); got {margin}.")
    pairs = [
        (one, other)
        for one in matrices
        if policy in one.policies
        for other in one.policies
        if other != policy
    ]
    made = [_regression(outcomes, policy, other, margin, alpha / len(pairs)) for outcomes, other in pairs]
    return [one for one in made if one is not None]


def _regression(
    outcomes: OutcomeMatrix, policy: str, baseline: str, margin: float, alpha: float
) -> Regression | None:
    def compared(matrix: OutcomeMatrix) -> Contrast | None:
        return contrast(matrix, policy, baseline, margin=margin or MARGIN, alpha=alpha)

    made = compared(outcomes)
    if made is None:
        return None
    for_it, against_it = made, made
    if outcomes.errors(policy) or outcomes.errors(baseline):
        for_it = compared(outcomes.with_errors_as({policy: 1.0, baseline: 0.0})) or made
        against_it = compared(outcomes.with_errors_as({policy: 0.0, baseline: 1.0})) or made
    interval = Interval(against_it.equivalence.interval.low, for_it.equivalence.interval.high)
    verdict: Verdict = "inconclusive"
    if interval.high < -margin:
        verdict = "worse"
    elif interval.low > -margin:
        verdict = "not worse"
    return Regression(
        policy,
        baseline,
        outcomes.suite,
        outcomes.protocol,
        made.difference,
        interval,
        made.equivalence.confidence,
        margin,
        verdict,
        made.anytime,
    )
