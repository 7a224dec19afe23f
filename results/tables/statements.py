"""Comparisons of policies as sentences to quote, with the tables behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simloop.results.errors import ResultsError
from simloop.results.records.records import policy_label
from simloop.results.records.runs import Runs
from simloop.results.statistics.contrasts import (
    MARGIN,
    Contrast,
    adjusted,
    contrast,
    contrasts,
    family_size,
    standing,
)
from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.multiplicity import compact_letters
from simloop.results.statistics.outcome_matrix import OutcomeMatrix, outcome_matrices
from simloop.results.statistics.ranks import Rank, rank_intervals
from simloop.results.statistics.scores import MeanScore, score_means, score_tasks
from simloop.results.tables.grid import NONE, Grid, number_text

BOOTSTRAP_SEED = 0  # The same records give the same statements.


def comparison(
    runs: Runs,
    policies: Sequence[str] = (),
    *,
    margin: float = MARGIN,
    alpha: float = 0.05,
    looked_at: int | None = None,
) -> list[tuple[str, list[str], Grid]]:
    """Compare all pairs of policies, for each suite and protocol: a title, sentences, and a grid of the means.

    Args:
      policies: Default: all policies of the runs.
      margin: Differences of success rates below it are irrelevant.
      alpha: Familywise significance level.
      looked_at: Number of policies and checkpoints evaluated before these were chosen; at least that of the runs.

    Raises:
      ResultsError: If a policy has no episode in the runs, there are fewer than two policies, no two of them share a
        suite and protocol, or `margin` or `alpha` is not in (0, 1).
    """
    chosen = list(policies or runs.policies)
    _check_comparable(runs, chosen, margin, alpha)
    tried = max(looked_at or 0, runs.looked_at)
    means = score_means(score_tasks(runs.episodes, runs.plans))
    found = []
    for (suite, protocol), outcomes in outcome_matrices(runs.episodes, chosen).items():
        if len(outcomes.policies) < 2:
            continue
        here = {mean.policy: mean for mean in means if (mean.suite, mean.protocol) == (suite, protocol)}
        made = contrasts(outcomes, margin=margin, alpha=alpha)
        p_values = adjusted(made, tried)
        sentences = [statement(one, p, alpha, runs.labels) for one, p in zip(made, p_values, strict=True)]
        sentences += _cautions(made, outcomes, len(chosen), tried)
        differ = [(one.a, one.b) for one, p in zip(made, p_values, strict=True) if p < alpha]
        title = f"Success on {_tasks(outcomes.tasks)} of {suite}, protocol {protocol}"
        found.append((title, sentences, _mean_grid(outcomes, here, differ)))
    if not found:
        raise ResultsError("No two of these policies have episodes of one suite under one protocol.")
    return found


def headline(
    outcomes: OutcomeMatrix, labels: Mapping[str, str], *, alpha: float = 0.05, looked_at: int | None = None
) -> str:
    """State in a sentence which policy is best, or which policies may be."""
    found = standing(outcomes, looked_at=looked_at, alpha=alpha)
    if not found.letters:
        return "There is only one policy, so nothing to compare."
    where = f"on {_tasks(outcomes.tasks)} of {outcomes.suite}"
    if found.best is not None:
        return f"{labels[found.best]} has the highest success rate {where}, significantly above every other policy."
    top, *_ = found.letters.values()
    leading = [labels[policy] for policy, letters in found.letters.items() if set(letters) & set(top)]
    listed = " and ".join(filter(None, (", ".join(leading[:-1]), leading[-1])))
    return f"The best policy {where} is undetermined: {listed} do not differ significantly."


def statement(
    one: Contrast, p_adjusted: float, alpha: float = 0.05, labels: Mapping[str, str] | None = None
) -> str:
    """State what a comparison shows and what it leaves undecided, the better policy first.

    Args:
      p_adjusted: p-value of the comparison, adjusted for all comparisons that could have been reported.
      labels: Names to show, by policy; default: the names of the policies.
    """
    if one.better == one.b:
        one = one.mirrored
    a, b = ((labels or {}).get(name, name) for name in (one.a, one.b))
    same = one.equivalence
    if one.pairs is not None:
        where = f"in the same {one.episodes_a} episodes"
        tests = f"{one.test}; exact {p_phrase(one.exact_p_value or 0.0)}"
    else:
        where = f"in {one.episodes_a} and {one.episodes_b} episodes, unpaired because {one.unpaired_because}"
        tests = one.test
    holm = "" if p_adjusted == one.p_value else f"; after Holm {p_phrase(p_adjusted)}"
    numbers = (
        f"{percent(one.rate_a)} against {percent(one.rate_b)} {where}, {signed(one.difference)} points (95 % "
        f"interval {_from_to(one.interval)}, {one.interval_method}), {p_phrase(one.p_value)} ({tests}){holm}"
    )
    margin = f"± {100 * same.margin:g} points"
    inner = f"{100 * (1 - 2 * alpha):g} % interval {_from_to(same.interval)}"
    if p_adjusted < alpha:
        verdict = f"{a} succeeds more often than {b}: {numbers}."
        if same.equivalent:
            verdict += f" The difference is nevertheless smaller than {margin} ({inner})."
    elif same.equivalent:
        tost = p_phrase(same.p_value)
        verdict = f"{a} and {b} are equivalent within {margin} ({inner}, TOST {tost}): {numbers}."
    else:
        verdict = (
            f"{a} and {b}: inconclusive, neither different nor equivalent: {numbers}; the {inner} does not lie within "
            f"{margin}."
        )
    if one.left_out:
        verdict += f" Left out: {counted(one.left_out, 'completed episode')} without a partner."
    return verdict


def task_grid(outcomes: OutcomeMatrix, a: str, b: str) -> Grid:
    """Two policies compared task by task, p-values adjusted over the tasks by Holm."""
    found = [contrast(outcomes.of_tasks([task]), a, b) for task in outcomes.tasks]
    made = [one for one in found if one is not None]
    rows = []
    for one, p in zip(made, adjusted(made, 2), strict=True):
        pairs = one.pairs
        counts = [NONE] * 4
        if pairs is not None:
            counts = [str(n) for n in (pairs.both, pairs.only_a, pairs.only_b, pairs.neither)]
        difference = (signed(one.difference), signed_interval(one.interval))
        rows.append((one.tasks[0], *counts, *difference, p_text(one.p_value), p_text(p)))
    notes = [
        "Episodes in which both, only one or neither policy succeeded; a dash if episodes are not paired."
    ]
    left = [task for task, one in zip(outcomes.tasks, found, strict=True) if one is None]
    if left:
        notes.append(f"Tasks that not both policies completed: {', '.join(left)}.")
    return Grid(
        f"{a} less {b}, in points",
        ("task", "both", f"only {a}", f"only {b}", "neither", "difference", "95 % interval", "p", "p (Holm)"),
        (tuple(rows),),
        tuple(notes),
    )


def percent(rate: float) -> str:
    """`94.2 %`."""
    return f"{100 * rate:.1f} %"


def signed(difference: float) -> str:
    """A difference of rates in points with its sign, `+3.1`."""
    return number_text(100 * difference, signed=True)


def signed_interval(interval: Interval) -> str:
    """An interval of a difference of rates in points, `[−1.2, +3.1]`."""
    return f"[{signed(interval.low)}, {signed(interval.high)}]"


def counted(number: int, noun: str) -> str:
    """`1 episode` or `3 episodes`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def p_text(p: float) -> str:
    """Two digits of a p-value, down to 0.0001."""
    return f"{p:.2f}" if p >= 0.095 else f"{p:.2g}" if p >= 0.0001 else "< 0.0001"


def p_phrase(p: float) -> str:
    """`p = 0.031` or `p < 0.0001`."""
    return f"p {p_text(p)}" if p < 0.0001 else f"p = {p_text(p)}"


def _from_to(interval: Interval) -> str:
    return f"{signed(interval.low)} to {signed(interval.high)}"


def _tasks(tasks: Sequence[str]) -> str:
    return f"task {tasks[0]}" if len(tasks) == 1 else f"{len(tasks)} tasks"


def _check_comparable(runs: Runs, policies: Sequence[str], margin: float, alpha: float) -> None:
    absent = [policy for policy in policies if policy not in runs.policies]
    if absent:
        raise ResultsError(
            f"No episodes of {', '.join(map(repr, absent))} in these runs; there are {', '.join(runs.policies)}."
        )
    if len(set(policies)) < 2:
        raise ResultsError(
            f"A comparison takes two policies with episodes; got {', '.join(policies) or 'none'}."
        )
    if not (0 < margin < 1 and 0 < alpha < 1):
        raise ResultsError(f"Margin and alpha lie in (0, 1), as rates do; got {margin} and {alpha}.")


def _cautions(made: Sequence[Contrast], outcomes: OutcomeMatrix, chosen: int, tried: int) -> list[str]:
    """What a reader of the statements must know about the family of comparisons."""
    pairs = counted(family_size(tried), "pair")
    if tried > 2:
        pairs += "; p-values after Holm hold for all of them together"
    found = [f"{tried} policies were evaluated, which makes {pairs}."]
    if tried > chosen:
        found.append(
            f"{chosen} of the {tried} are compared here. If they were chosen by their results, the rate of the best is "
            "biased upwards: evaluate it again with another seed before quoting it."
        )
    partial = sorted(
        {name for one in made if len(one.tasks) < len(outcomes.tasks) for name in (one.a, one.b)}
    )
    if partial:
        found.append(
            f"Some comparisons of {', '.join(partial)} are over fewer tasks, those that both policies completed."
        )
    return found


def _mean_grid(
    outcomes: OutcomeMatrix, means: Mapping[str, MeanScore], differ: Sequence[tuple[str, str]]
) -> Grid:
    """Means over tasks with letters and ranks, the best policy first."""
    ranks, paired = rank_intervals(outcomes, np.random.default_rng(BOOTSTRAP_SEED))
    rank_of = {rank.policy: rank for rank in ranks}

    def rate(policy: str) -> float:
        known = means[policy].rate
        return -1.0 if known is None else known

    order = sorted(outcomes.policies, key=lambda policy: (-rate(policy), policy))
    letters = compact_letters(order, differ)
    rows = []
    for policy in order:
        mean, interval = means[policy], means[policy].interval()
        rows.append(
            (
                policy_label(policy, mean.weights),
                NONE if mean.rate is None else f"{100 * mean.rate:.1f}",
                NONE if interval is None else f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]",
                f"{mean.successes}/{mean.completed}",
                str(mean.errors),
                letters[policy],
                *_rank_texts(rank_of.get(policy)),
            )
        )
    how = "in pairs" if paired else "separately for each policy"
    return Grid(
        "Mean over tasks in %",
        ("policy", "mean", "95 % interval", "episodes", "errors", "letters", "rank", "best"),
        (tuple(rows),),
        (
            "letters: policies that share one do not differ significantly; rank: 95 % bootstrap interval, episodes "
            f"resampled within tasks {how}; best: share of resamples in which no other policy was better.",
        ),
    )


def _rank_texts(rank: Rank | None) -> tuple[str, str]:
    if rank is None:
        return NONE, NONE
    ends = f"{rank.low}" if rank.low == rank.high else f"{rank.low}–{rank.high}"
    return ends, f"{100 * rank.best:.0f} %"
