"""Bootstrap intervals for the ranks of several policies.

Axis letters: k episodes, p policies, r resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from simloop.results.statistics.intervals import quantile
from simloop.results.statistics.outcome_matrix import OutcomeMatrix

RESAMPLES = 4000  # Ends of intervals are whole ranks, so more resamples rarely change them.


@dataclass(frozen=True)
class Rank:
    """Rank interval of a policy; 1 is the best rank."""

    policy: str
    low: int
    high: int
    best: float
    """Share of resamples in which no other policy had a higher mean; ties count for all tied policies. With errors,
    the smallest such share: the policy's own are failures and those of the others successes."""


def rank_intervals(
    outcomes: OutcomeMatrix,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[list[Rank], bool]:
    """Rank intervals of all policies that played every task, and whether episodes were resampled in pairs.

    Episodes are resampled within each task: in pairs, for all policies at once, if every task has episodes that all
    policies played from equal initial states, and otherwise separately for each policy. The mean weighs all
    tasks equally. Policies with equal means share the better rank. An interval holds whatever the outcomes of the
    errors would have been: it reaches from the rank with the policy's own errors as successes and those of the others
    as failures to the rank with the reverse. Too narrow for few episodes per task, since a
    policy that solved 4 of 4 or 0 of 4 does so in every resample: in simulations with four policies the coverage was
    89 to 97 % with five tasks of 4 episodes, 93 to 100 % with 10 episodes, and 99 to 100 % with one task of 50.

    Reference: percentile intervals of bootstrapped ranks, Goldstein and Spiegelhalter (1996),
    doi:10.2307/2983325; resampling within strata, Davison and Hinkley (1997), section 3.2.
    """
    bounds = [outcomes.with_errors_as(dict.fromkeys(outcomes.policies, value)) for value in (0.0, 1.0)]
    ranked = [policy for policy in outcomes.policies if min(bounds[0].counts(policy)[1])]
    if not ranked:
        return [], True
    shared = bounds[0].shared(ranked)
    everywhere = np.bincount(outcomes.task[shared], minlength=len(outcomes.tasks)).min() > 0
    paired = bool(everywhere) and all(outcomes.same_seeds(ranked[0], other) for other in ranked[1:])
    columns = [outcomes.column(policy) for policy in ranked]
    success = np.stack([one.success[:, columns] for one in bounds], axis=2)
    means = np.zeros((resamples, len(ranked), 2))
    for task in range(len(outcomes.tasks)):
        rows = success[outcomes.task == task]
        if paired:
            means += _resampled(rows[~np.isnan(rows).any(axis=(1, 2))], rng, resamples)
        else:
            for i in range(len(ranked)):
                own = rows[~np.isnan(rows[:, i, 0]), i : i + 1]
                means[:, i : i + 1] += _resampled(own, rng, resamples)
    # The same sum in another order differs by rounding.
    least, most = np.moveaxis(np.round(means / len(outcomes.tasks), 12), 2, 0)
    tail = (1 - confidence) / 2
    found = []
    for i, policy in enumerate(ranked):
        others = np.arange(len(ranked)) != i
        lowest, highest = (
            1 + (theirs[:, others] > own[:, i : i + 1]).sum(axis=1)
            for theirs, own in ((least, most), (most, least))
        )
        low, high = quantile(lowest.astype(float), tail), quantile(highest.astype(float), 1 - tail)
        found.append(Rank(policy, int(low), int(high), float((highest == 1).mean())))
    return found, paired


def _resampled(
    success: Float[np.ndarray, "k p 2"], rng: np.random.Generator, resamples: int
) -> Float[np.ndarray, "r p 2"]:
    """Success rates in bootstrap samples of the rows, with errors as failures and as successes."""
    # Rows with equal outcomes of all policies are interchangeable, so counts of distinct rows are drawn.
    kinds, counts = np.unique(success, axis=0, return_counts=True)
    times = rng.multinomial(len(success), counts / len(success), size=resamples)
    rates: Float[np.ndarray, "r p 2"] = np.tensordot(times, kinds, axes=1) / len(success)
    return rates
