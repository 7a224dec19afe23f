"""How sure the order of several policies is: ranks under resampling of the episodes they met.

Axis letters: k episodes, p policies, r resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from simloop.results.statistics.outcome_matrix import OutcomeMatrix

RESAMPLES = 4000  # Ends of intervals are whole ranks, so more would not show.


@dataclass(frozen=True)
class Rank:
    """Where a policy may stand among the others, 1 being the best."""

    policy: str
    low: int
    high: int
    best: float
    """Share of resamples in which no other policy had a higher mean; shared first places count for all."""


def rank_intervals(
    outcomes: OutcomeMatrix,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[list[Rank], bool]:
    """Rank intervals of all policies that completed every task, and whether episodes were resampled in pairs.

    Episodes are drawn anew within each task. In pairs, an episode is drawn for all policies at once, from
    those that all completed; that takes such episodes for every task and equal initial states, else each
    policy's episodes are drawn apart. The mean weighs every task the same. Policies with equal means share
    the better rank. Too narrow where tasks have few episodes, for a policy that solved 4 of 4 or 0 of 4 does so
    in every resample: ranks of four policies were covered in 89 to 97 % with five tasks of 4 episodes, in 93 to
    100 % with 10, in 99 to 100 % with one task of 50.

    Reference: percentile intervals of bootstrapped ranks, Goldstein and Spiegelhalter (1996),
    doi:10.2307/2983325; resampling within strata, Davison and Hinkley (1997), section 3.2.
    """
    ranked = [policy for policy in outcomes.policies if min(outcomes.counts(policy)[1])]
    if not ranked:
        return [], True
    shared = outcomes.shared(ranked)
    everywhere = np.bincount(outcomes.task[shared], minlength=len(outcomes.tasks)).min() > 0
    paired = bool(everywhere) and all(outcomes.played_alike(ranked[0], other) for other in ranked[1:])
    columns = [outcomes.column(policy) for policy in ranked]
    means = np.zeros((resamples, len(ranked)))
    for task in range(len(outcomes.tasks)):
        rows = outcomes.success[outcomes.task == task][:, columns]
        if paired:
            means += _resampled(rows[~np.isnan(rows).any(axis=1)], rng, resamples)
        else:
            for i in range(len(ranked)):
                own = rows[~np.isnan(rows[:, i]), i : i + 1]
                means[:, i : i + 1] += _resampled(own, rng, resamples)
    # Sums of equal parts in another order differ by rounding.
    means = np.round(means / len(outcomes.tasks), 12)
    rank = 1 + (means[:, None, :] > means[:, :, None]).sum(axis=2)
    tail = (1 - confidence) / 2
    low, high = np.quantile(rank, [tail, 1 - tail], axis=0, method="inverted_cdf")
    return [
        Rank(policy, int(low[i]), int(high[i]), float((rank[:, i] == 1).mean()))
        for i, policy in enumerate(ranked)
    ], paired


def _resampled(
    success: Float[np.ndarray, "k p"], rng: np.random.Generator, resamples: int
) -> Float[np.ndarray, "r p"]:
    """Success rates of episodes drawn anew, as often as there are."""
    # Episodes that came to the same for all policies are drawn alike, so they are drawn as one kind.
    kinds, counts = np.unique(success, axis=0, return_counts=True)
    times = rng.multinomial(len(success), counts / len(success), size=resamples)
    return times @ kinds / len(success)
