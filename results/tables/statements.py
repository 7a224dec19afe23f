"""Comparisons of policies as sentences to quote, with the tables behind them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from simloop.results.errors import ResultsError
from simloop.results.records.records import policy_label
from simloop.results.records.runs import Runs
from simloop.results.statistics.contrasts import MARGIN
from simloop.results.statistics.early_stopping import matrices
from simloop.results.statistics.families import (
    Finding,
    Standing,
    comparisons_of,
    family_size,
    findings,
    standing,
)
from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.outcome_matrix import OutcomeMatrix
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

    All comparisons are one family: the probability that any of them reports a difference that does not exist is at
    most alpha, and so is the probability that any of them reports an equivalence that does not exist.

    Args:
      policies: Default: all policies of the runs.
      margin: Differences of success rates below it are irrelevant.
      alpha: Familywise significance level.
      looked_at: Number of policies and checkpoints evaluated before these were chosen; at least that of the runs.

    Raises:
      ResultsError: If a policy has no episode in the runs, there are fewer than two policies, no two of them share a
        suite and protocol, or `margin` or `alpha` is not in (0, 1).
    """
    together = comparable(runs, policies, margin=margin, alpha=alpha, looked_at=looked_at)
    means = score_means(score_tasks(runs.episodes, runs.plans))
    found = []
    for outcomes, here in zip(together, findings(together, margin=margin, alpha=alpha), strict=True):
        key = (outcomes.suite, outcomes.protocol)
        mean_of = {mean.policy: mean for mean in means if (mean.suite, mean.protocol) == key}
        place = standing(outcomes, here)
        sentences = [statement(one, alpha, runs.labels) for one in here]
        sentences += _cautions(here, outcomes, together, place, len(set(policies or runs.policies)))
        sentences += runs.notes
        title = f"Success on {_tasks(outcomes.tasks)} of {outcomes.suite}, protocol {outcomes.protocol}"
        found.append((title, sentences, _mean_grid(outcomes, mean_of, place)))
    return found


def comparable(
    runs: Runs,
    policies: Sequence[str] = (),
    *,
    margin: float = MARGIN,
    alpha: float = 0.05,
    looked_at: int | None = None,
) -> list[OutcomeMatrix]:
    """Outcomes of every suite and protocol with at least two of the policies; arguments and errors of `comparison`."""
    chosen = list(policies or runs.policies)
    _check_comparable(runs, chosen, margin, alpha)
    found = [one for one in matrices(runs, chosen, looked_at=looked_at).values() if len(one.policies) > 1]
    if not found:
        raise ResultsError("No two of these policies have episodes of one suite under one protocol.")
    return found


def headline(outcomes: OutcomeMatrix, found: Sequence[Finding], labels: Mapping[str, str]) -> str:
    """State in a sentence which policy is best, or which policies may be.

    Args:
      found: Findings about all pairs of the policies.
    """
    if len(outcomes.policies) < 2:
        return "There is only one policy, so nothing to compare."
    place = standing(outcomes, found)
    where = f"on {_tasks(outcomes.tasks)} of {outcomes.suite}"
    if place.best is not None:
        return f"{labels[place.best]} has the highest success rate {where}, significantly above every other policy."
    if not place.letters:
        return f"The best policy {where} is undetermined: the policies have no task in common, so nothing to compare."
    top, *_ = place.letters.values()
    leading = [labels[policy] for policy, letters in place.letters.items() if set(letters) & set(top)]
    sentence = f"The best policy {where} is undetermined"
    if len(leading) > 1:
        sentence += f": {_and(leading)} do not differ significantly"
    if any(one.contrast.anytime for one in found):
        sentence += "; undecided by the stopping rule"
    if apart := [labels[policy] for policy in place.apart]:
        sentence += f"; not compared with every other policy: {_and(apart)}"
    return f"{sentence}."


def statement(finding: Finding, alpha: float = 0.05, labels: Mapping[str, str] | None = None) -> str:
    """State what a comparison shows and what it leaves undecided, the better policy first.

    Args:
      alpha: Level of the family.
      labels: Names to show, by policy; default: the names of the policies.
    """
    one = finding.contrast
    if one.better == one.b:
        one = one.mirrored
    a, b = ((labels or {}).get(name, name) for name in (one.a, one.b))
    same = one.equivalence
    where = f"in {one.episodes_a} and {one.episodes_b} episodes, unpaired because {one.unpaired_because}"
    if one.pairs is not None:
        where = f"in the same {one.episodes_a} episodes"
    tests = one.test + ("" if one.exact_p_value is None else f"; exact {p_phrase(one.exact_p_value)}")
    if one.anytime:
        tests += ", valid at every look"
    changed = finding.p_adjusted != one.decisive_p_value
    holm = f"; after Holm {p_phrase(finding.p_adjusted)}" if changed else ""
    numbers = (
        f"{percent(one.rate_a)} against {percent(one.rate_b)} {where}, {signed(one.difference)} points (95 % "
        f"interval {_from_to(one.interval)}, {one.interval_method}), {p_phrase(one.p_value)} ({tests}){holm}"
    )
    margin = f"± {100 * same.margin:g} points"
    inner = f"{100 * same.confidence:.4g} % interval {_from_to(same.interval)}"
    tost = ""
    if same.p_value is not None and same.p_value < alpha:
        tost = f", TOST {p_phrase(same.p_value)}"
        if finding.equivalence_p_adjusted != same.p_value:
            tost += f", after Holm {p_phrase(finding.equivalence_p_adjusted or 0.0)}"
    if finding.differ:
        # The null hypothesis of the e-process is equal rates on every task.
        verdict = f"{a} succeeds more often than {b}: {numbers}."
        if one.anytime:
            verdict = f"{a} and {b} differ on these tasks, {a} succeeding more often: {numbers}."
        if finding.equivalent:
            verdict += f" The difference is nevertheless smaller than {margin} ({inner})."
    elif finding.equivalent:
        verdict = f"{a} and {b} are equivalent within {margin} ({inner}{tost}): {numbers}."
    else:
        open_ = "undecided" if one.anytime else "inconclusive"
        verdict = f"{a} and {b}: {open_}, neither different nor equivalent: {numbers}; the {inner}{tost}."
    return " ".join(filter(None, (verdict, _errors_sentence(finding, a, b), _left_out(one.left_out))))


def _errors_sentence(finding: Finding, a: str, b: str) -> str:
    """State what the errors of two policies could change; `a` is the better one."""
    one = finding.contrast if finding.contrast.better != finding.contrast.b else finding.contrast.mirrored
    if not one.errors_a + one.errors_b:
        return ""
    counts = f"{one.errors_a} of {a} and {one.errors_b} of {b}"
    if finding.differ:
        return f"Errors ({counts}) cannot change this."
    if one.p_value_with_errors >= 1:
        effect = f"{a} would not be the better one"
    else:
        effect = p_phrase(one.p_value_with_errors)
    return f"Errors may decide ({counts}): with those of {a} as failures and those of {b} as successes, {effect}."


def _left_out(number: int) -> str:
    return f"Left out: {counted(number, 'completed episode')} without a partner." if number else ""


def task_grids(
    together: Sequence[OutcomeMatrix], labels: Mapping[str, str] | None = None, *, alpha: float = 0.05
) -> list[Grid]:
    """A grid per pair of policies, with a row per task; p-values of all rows of all grids are one family."""
    by_task = [(one, [one.of_tasks([task]) for task in one.tasks]) for one in together]
    every = [row for _, rows in by_task for row in rows]
    found = iter(findings(every, alpha=alpha))
    family = counted(comparisons_of(every), "comparison")
    grids = []
    for outcomes, rows in by_task:
        of_pair: dict[tuple[str, str], list[Finding]] = {
            pair: [] for pair in itertools.combinations(outcomes.policies, 2)
        }
        for one in itertools.chain.from_iterable(itertools.islice(found, len(rows))):
            of_pair[one.contrast.a, one.contrast.b].append(one)
        several = len(together) > 1
        grids += [
            _task_grid(outcomes, pair, own, family, labels or {}, several) for pair, own in of_pair.items()
        ]
    return grids


def _task_grid(
    outcomes: OutcomeMatrix,
    pair: tuple[str, str],
    found: Sequence[Finding],
    family: str,
    labels: Mapping[str, str],
    several: bool,
) -> Grid:
    a, b = (labels.get(name, name) for name in pair)
    rows = []
    for finding in found:
        one = finding.contrast
        counts = [NONE] * 4
        if one.pairs is not None:
            counts = [str(n) for n in (one.pairs.both, one.pairs.only_a, one.pairs.only_b, one.pairs.neither)]
        difference = (signed(one.difference), signed_interval(one.interval))
        p_values = (p_text(one.p_value), p_text(finding.p_adjusted))
        rows.append((one.tasks[0], *counts, *difference, *p_values))
    notes = [
        "Episodes in which both, only one or neither policy succeeded; a dash if episodes are not paired.",
        f"p (Holm): adjusted for the {family} of all tables by task, which are a family of their own; with errors "
        "counted against the better policy.",
    ]
    if any(one.contrast.anytime for one in found):
        notes.append(
            "A stopping rule decides the number of pairs: p-values and intervals hold at every look."
        )
    compared = {one.contrast.tasks[0] for one in found}
    if left := [task for task in outcomes.tasks if task not in compared]:
        notes.append(f"Tasks that not both policies completed: {', '.join(left)}.")
    return Grid(
        f"{a} less {b}, in points" + (f", protocol {outcomes.protocol}" if several else ""),
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


def family_of_changes(changes: int) -> str:
    """What the p-values of changes are adjusted for, as a note."""
    adjusted = (
        f"adjusted for the {changes} changes of all these tables" if changes > 1 else "of the only change"
    )
    return f"p (Holm): {adjusted}, with errors counted against the change."


def p_text(p: float) -> str:
    """Two digits of a p-value, down to 0.0001."""
    return f"{p:.2f}" if p >= 0.095 else f"{p:.2g}" if p >= 0.0001 else "< 0.0001"


def p_phrase(p: float) -> str:
    """`p = 0.031` or `p < 0.0001`."""
    return f"p {p_text(p)}" if p < 0.0001 else f"p = {p_text(p)}"


def _from_to(interval: Interval) -> str:
    return f"{signed(interval.low)} to {signed(interval.high)}"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


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


def _cautions(
    found: Sequence[Finding],
    outcomes: OutcomeMatrix,
    together: Sequence[OutcomeMatrix],
    place: Standing,
    chosen: int,
) -> list[str]:
    """What a reader of the statements must know about the family of comparisons."""
    pairs = f"{outcomes.tried} policies were evaluated, which makes {counted(family_size(outcomes.tried), 'pair')}"
    if len(together) > 1:
        everywhere = counted(comparisons_of(together), "comparison")
        pairs += f" here and {everywhere} in all {len(together)} suites and protocols"
    if comparisons_of(together) > 1:
        pairs += "; p-values after Holm, of differences and separately of equivalence, hold for all of them together"
    cautions = [f"{pairs}."]
    if outcomes.tried > chosen:
        cautions.append(
            f"{chosen} of the {outcomes.tried} are compared here. If they were chosen by their results, the rate of "
            "the best is biased upwards: evaluate it again with another seed before quoting it."
        )
    if place.apart:
        cautions.append(
            f"Not compared with every other policy, for lack of episodes of a common task"
            f"{' in the same order' if outcomes.stopped else ''}: {', '.join(place.apart)}."
        )
    partial = sorted(
        {
            name
            for one in found
            if len(one.contrast.tasks) < len(outcomes.tasks)
            for name in (one.contrast.a, one.contrast.b)
        }
    )
    if partial:
        cautions.append(
            f"Some comparisons of {', '.join(partial)} are over fewer tasks, those that both policies completed."
        )
    return cautions


def _mean_grid(outcomes: OutcomeMatrix, means: Mapping[str, MeanScore], place: Standing) -> Grid:
    """Means over tasks with letters and ranks, the best policy first."""
    ranks, paired = rank_intervals(outcomes, np.random.default_rng(BOOTSTRAP_SEED))
    rank_of = {} if outcomes.stopped else {rank.policy: rank for rank in ranks}

    def rate(policy: str) -> float:
        known = means[policy].rate
        return -1.0 if known is None else known

    order = sorted(outcomes.policies, key=lambda policy: (-rate(policy), policy))
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
                place.letters.get(policy, NONE),
                *_rank_texts(rank_of.get(policy)),
            )
        )
    how = "in pairs" if paired else "separately for each policy"
    notes = ["letters: policies that share one were compared and not found to differ."]
    if outcomes.stopped:
        notes.append(
            "A stopping rule decides the number of episodes: intervals are confidence sequences, which hold at every "
            "look, and there are no ranks."
        )
    else:
        notes.append(
            f"rank: 95 % bootstrap interval, episodes resampled within tasks {how}, whatever the outcomes of errors "
            "would have been; best: share of resamples in which no other policy was better."
        )
    return Grid(
        "Mean over tasks in %",
        ("policy", "mean", "95 % interval", "episodes", "errors", "letters", "rank", "best"),
        (tuple(rows),),
        tuple(notes),
    )


def _rank_texts(rank: Rank | None) -> tuple[str, str]:
    if rank is None:
        return NONE, NONE
    ends = f"{rank.low}" if rank.low == rank.high else f"{rank.low}–{rank.high}"
    return ends, f"{100 * rank.best:.0f} %"
