"""Tests of all pairs of policies at once, for letters; equal to those of `contrasts` to the last bit.

Axis letters: k episodes, p policies, n pairs of policies in the order of `itertools.combinations`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

from simloop.results.statistics.contrasts import SHARED, contrast
from simloop.results.statistics.outcome_matrix import OutcomeMatrix


@dataclass(frozen=True)
class PairTests:
    """Tests of equal success rates of all pairs of policies."""

    p_values: Float[np.ndarray, "n"]
    """As `Contrast.decisive_p_value`; nan where policies cannot be compared."""
    lead: Int[np.ndarray, "n"]
    """1 if the first policy of the pair has the higher rate, -1 if the second, otherwise 0."""


def pair_tests(outcomes: OutcomeMatrix) -> PairTests:
    """Test all pairs of policies as `simloop.results.statistics.contrasts.contrast` does."""
    success, (first, second) = outcomes.success, np.triu_indices(len(outcomes.policies), 1)
    p_values, lead, known = (values[first, second] for values in _mcnemar(outcomes, success, success))
    errors = np.isnan(success) & ~np.isnan(outcomes.seed)
    if errors.any():
        # Errors of the better policy as failures, and those of the other as successes.
        at_worst, at_best = (np.where(errors, outcome, success) for outcome in (0.0, 1.0))
        better, worse = np.where(lead == -1, (second, first), (first, second))
        worst_p, worst_lead, worst_known = (
            values[better, worse] for values in _mcnemar(outcomes, at_worst, at_best)
        )
        worst_p = np.where((lead != 0) & (worst_lead == 1), worst_p, 1.0)
        failed = errors.any(axis=0)
        uncertain = failed[first] | failed[second]
        p_values = np.where(uncertain, np.maximum(p_values, worst_p), p_values)
        known &= worst_known | (lead == 0) | ~uncertain
    for n in np.flatnonzero(~known):
        one = contrast(outcomes, outcomes.policies[first[n]], outcomes.policies[second[n]])
        p_values[n] = np.nan if one is None else one.decisive_p_value
        lead[n] = 0 if one is None or one.better is None else 1 if one.better == one.a else -1
    return PairTests(p_values, lead)


def _mcnemar(
    outcomes: OutcomeMatrix, rows: Float[np.ndarray, "k p"], columns: Float[np.ndarray, "k p"]
) -> tuple[Float[np.ndarray, "p p"], Int[np.ndarray, "p p"], Bool[np.ndarray, "p p"]]:
    """Mid-p-values of all pairs of a row and a column, who leads, and whether the test is the one to use.

    Args:
      rows: Outcomes as of `OutcomeMatrix.success`, for the first policy of a pair.
      columns: The same for the second.
    """
    size = len(outcomes.policies)
    done_a, done_b = ~np.isnan(rows), ~np.isnan(columns)
    pairs, only_a, only_b, tasks, most = np.zeros((5, size, size))
    rate_a, rate_b, share_a, share_b, inverse = np.zeros((5, size, size))
    fewest, common = np.full((size, size), np.inf), np.zeros((size, size), bool)
    for task in range(len(outcomes.tasks)):
        here = outcomes.task == task
        x, y, n, m = (values[here].astype(float) for values in (rows == 1, columns == 1, done_a, done_b))
        common |= np.logical_and.outer(n.any(axis=0), m.any(axis=0))
        own, won_a, won_b, both = n.T @ m, x.T @ m, n.T @ y, x.T @ y
        pairs, only_a, only_b = pairs + own, only_a + (won_a - both), only_b + (won_b - both)
        met = own > 0
        tasks, most, fewest = (
            tasks + met,
            np.maximum(most, own),
            np.where(met, np.minimum(fewest, own), fewest),
        )
        own = np.where(met, own, 1)  # Without pairs the counts are 0.
        rate_a, rate_b = rate_a + won_a / own, rate_b + won_b / own
        share_a, share_b = share_a + (won_a - both) / own, share_b + (won_b - both) / own
        inverse = inverse + met / own
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = tasks / inverse
        weighted = np.where(most == fewest, only_a - only_b, scale * share_a - scale * share_b)
        lead = np.sign(rate_a / tasks - rate_b / tasks)
    p_values = np.where(weighted * (only_a - only_b) > 0, _mid_p(only_a, only_b), 1.0)
    enough = pairs >= SHARED * np.minimum.outer(done_a.sum(axis=0), done_b.sum(axis=0))
    ruled = np.isin(outcomes.policies, [name for run in outcomes.stopped for name in run.policies])
    known = enough & _one_seed(outcomes) & ~np.logical_or.outer(ruled, ruled)
    return np.where(common, p_values, np.nan), np.where(pairs > 0, lead, 0).astype(np.int64), known | ~common


def _mid_p(only_a: Float[np.ndarray, "p p"], only_b: Float[np.ndarray, "p p"]) -> Float[np.ndarray, "p p"]:
    """As `simloop.results.statistics.paired.mcnemar_mid_p`, of all pairs."""
    fewer, discordant = np.minimum(only_a, only_b), (only_a + only_b).astype(np.int64)
    at_most = scipy.special.bdtr(fewer, discordant, 0.5)
    less = np.where(fewer > 0, scipy.special.bdtr(np.maximum(fewer - 1, 0), discordant, 0.5), 0.0)
    p_values: Float[np.ndarray, "p p"] = np.minimum(1.0, at_most + less)
    return p_values


def _one_seed(outcomes: OutcomeMatrix) -> bool:
    """Whether every episode started from the same state for all policies that played it."""
    played = ~np.isnan(outcomes.seed)
    low, high = (
        extreme(np.where(played, outcomes.seed, other), axis=1, initial=other)
        for extreme, other in ((np.min, np.inf), (np.max, -np.inf))
    )
    return bool((low >= high).all())
