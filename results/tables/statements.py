"""Comparisons as sentences, for people who will quote them."""

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
from simloop.results.statistics.multiplicity import compact_letters
from simloop.results.statistics.outcome_matrix import OutcomeMatrix, outcome_matrices
from simloop.results.statistics.ranks import rank_intervals
from simloop.results.statistics.scores import MeanScore, score_means, score_tasks
from simloop.results.tables.typesetting import NONE, Grid

BOOTSTRAP_SEED = 0  # The same records give the same statements.


def check_comparable(runs: Runs, policies: Sequence[str], margin: float, alpha: float) -> None:
    """Refuse what cannot be compared.

    Raises:
      ResultsError: If a policy has no episode in the runs, fewer than two are left, or a level or margin is
        not in (0, 1).
    """
    absent = [policy for policy in policies if policy not in runs.policies]
    if absent:
        raise ResultsError(
            f"No episodes of {', '.join(map(repr, absent))} in these runs; there are "
            f"{', '.join(runs.policies)}."
        )
    if len(set(policies)) < 2:
        raise ResultsError(
            f"A comparison takes two policies with episodes; got {', '.join(policies) or 'none'}."
        )
    if not (0 < margin < 1 and 0 < alpha < 1):
        raise ResultsError(f"Margin and alpha lie in (0, 1), as rates do; got {margin} and {alpha}.")


def comparison(
    runs: Runs,
    policies: Sequence[str] = (),
    *,
    margin: float = MARGIN,
    alpha: float = 0.05,
    looked_at: int | None = None,
) -> list[tuple[str, list[str], Grid]]:
    """What the runs say of all pairs of some policies.

    For each suite and protocol: a title, sentences, and a grid of means, letters and ranks.

    Args:
      policies: Default: all of the runs.
      margin: Differences of rates below this do not matter.
      looked_at: Policies and checkpoints tried before these were chosen; at least those of the runs.

    Raises:
      ResultsError: If there is nothing to compare.
    """
    chosen = list(policies or runs.policies)
    check_comparable(runs, chosen, margin, alpha)
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
        title = f"Success on {_tasks(outcomes.tasks)} of {suite}, protocol {protocol}"
        found.append((title, sentences, _standings(outcomes, here, made, p_values, alpha)))
    if not found:
        raise ResultsError("No two of these policies have episodes of one suite under one protocol.")
    return found


def headline(
    outcomes: OutcomeMatrix, labels: Mapping[str, str], *, alpha: float = 0.05, looked_at: int | None = None
) -> str:
    """The answer in a sentence: which policy is best, or among which that is open."""
    found = standing(outcomes, looked_at=looked_at, alpha=alpha)
    if not found.letters:
        return "One policy alone leaves nothing to compare."
    where = f"on {_tasks(outcomes.tasks)} of {outcomes.suite}"
    if found.best is not None:
        return f"{labels[found.best]} succeeds most often {where}, more than every other policy here."
    top, *_ = found.letters.values()
    open_ = [labels[policy] for policy, letters in found.letters.items() if set(letters) & set(top)]
    listed = " and ".join(filter(None, (", ".join(open_[:-1]), open_[-1])))
    return f"It is open which policy is best {where}: {listed} were not found to differ."


def statement(
    one: Contrast, p_adjusted: float, alpha: float = 0.05, labels: Mapping[str, str] | None = None
) -> str:
    """What a comparison shows, and what it does not: a few sentences, the better policy first.

    Args:
      p_adjusted: Its p-value among all comparisons that could have been reported.
      labels: How policies are to be named; default: by their names.
    """
    if one.better == one.b:
        one = one.mirrored
    a, b = ((labels or {}).get(name, name) for name in (one.a, one.b))
    found, same = one.interval, one.equivalence
    if one.pairs is not None:
        where = f"in the same {one.episodes_a} episodes"
        tests = f"{one.test}; exact {p_phrase(one.exact_p_value or 0.0)}"
    else:
        where = f"of {one.episodes_a} and {one.episodes_b} episodes, unpaired because {one.unpaired_because}"
        tests = one.test
    holm = "" if p_adjusted == one.p_value else f"; after Holm {p_phrase(p_adjusted)}"
    numbers = (
        f"{percent(one.rate_a)} against {percent(one.rate_b)} {where}, {signed(one.difference)} points (95 % "
        f"interval {signed(found.low)} to {signed(found.high)}, {one.interval_method}), "
        f"{p_phrase(one.p_value)} ({tests}){holm}"
    )
    margin = f"± {100 * same.margin:g} points"
    inner = (
        f"{100 * (1 - 2 * alpha):g} % interval {signed(same.interval.low)} to {signed(same.interval.high)}"
    )
    if p_adjusted < alpha:
        verdict = f"{a} succeeds more often than {b}: {numbers}."
        if same.equivalent:
            verdict += f" Yet the difference is smaller than {margin} ({inner})."
    elif same.equivalent:
        verdict = (
            f"{a} and {b} are equivalent within {margin} ({inner}, TOST {p_phrase(same.p_value)}): {numbers}."
        )
    else:
        verdict = (
            f"{a} and {b}: no difference was found, and none was ruled out: {numbers}; the {inner} does not "
            f"lie within {margin}."
        )
    if one.left_out:
        verdict += f" {one.left_out} completed episodes without a partner are left out."
    return verdict


def task_grid(outcomes: OutcomeMatrix, a: str, b: str) -> Grid:
    """Two policies task by task, p-values adjusted over the tasks (Holm)."""
    found = [contrast(outcomes.of_tasks([task]), a, b) for task in outcomes.tasks]
    made = [one for one in found if one is not None]
    p_values = adjusted(made, 2)
    rows = tuple(
        (
            one.tasks[0],
            *(
                (str(one.pairs.both), str(one.pairs.only_a), str(one.pairs.only_b), str(one.pairs.neither))
                if one.pairs is not None
                else (NONE,) * 4
            ),
            signed(one.difference),
            f"[{signed(one.interval.low)}, {signed(one.interval.high)}]",
            p_text(one.p_value),
            p_text(p),
        )
        for one, p in zip(made, p_values, strict=True)
    )
    notes = ["Episodes in which both, only one or neither succeeded; a dash where episodes are not paired."]
    left = [task for task, one in zip(outcomes.tasks, found, strict=True) if one is None]
    if left:
        notes.append(f"Not completed by both: {', '.join(left)}.")
    return Grid(
        f"{a} less {b}, in points",
        ("task", "both", f"only {a}", f"only {b}", "neither", "difference", "95 % interval", "p", "p (Holm)"),
        (rows,),
        tuple(notes),
    )


def percent(rate: float) -> str:
    """`94.2 %`."""
    return f"{100 * rate:.1f} %"


def signed(difference: float) -> str:
    """A difference of rates in points with its sign, `+3.1`; a minus as long as a plus."""
    points = round(100 * difference, 1)
    return "0.0" if points == 0 else f"{points:+.1f}".replace("-", "−")


def p_text(p: float) -> str:
    """Two digits of a p-value, down to 0.0001."""
    return f"{p:.2f}" if p >= 0.095 else f"{p:.2g}" if p >= 0.0001 else "< 0.0001"


def p_phrase(p: float) -> str:
    """`p = 0.031` or `p < 0.0001`."""
    return f"p {p_text(p)}" if p < 0.0001 else f"p = {p_text(p)}"


def _tasks(tasks: Sequence[str]) -> str:
    return f"task {tasks[0]}" if len(tasks) == 1 else f"{len(tasks)} tasks"


def _cautions(made: Sequence[Contrast], outcomes: OutcomeMatrix, chosen: int, tried: int) -> list[str]:
    found = [
        f"{tried} policies were looked at, which makes {family_size(tried)} "
        + ("pair." if tried == 2 else "pairs; p-values after Holm hold for all of them together.")
    ]
    if tried > chosen:
        found.append(
            f"{chosen} of the {tried} are compared here. If they were chosen by their results, the best of "
            "them is flattered by luck: play it again with another seed before quoting its rate."
        )
    partial = sorted(
        {name for one in made if len(one.tasks) < len(outcomes.tasks) for name in (one.a, one.b)}
    )
    if partial:
        found.append(
            f"Some comparisons of {', '.join(partial)} are over fewer tasks: those that both completed."
        )
    return found


def _standings(
    outcomes: OutcomeMatrix,
    means: dict[str, MeanScore],
    made: Sequence[Contrast],
    p_values: Sequence[float],
    alpha: float,
) -> Grid:
    ranks, paired = rank_intervals(outcomes, np.random.default_rng(BOOTSTRAP_SEED))
    rank_of = {rank.policy: rank for rank in ranks}

    def rate(policy: str) -> float:
        known = means[policy].rate
        return -1.0 if known is None else known

    order = sorted(outcomes.policies, key=lambda policy: (-rate(policy), policy))
    letters = compact_letters(
        order, [(one.a, one.b) for one, p in zip(made, p_values, strict=True) if p < alpha]
    )
    rows = []
    for policy in order:
        mean, interval, rank = means[policy], means[policy].interval(), rank_of.get(policy)
        rows.append(
            (
                policy_label(policy, mean.weights),
                NONE if mean.rate is None else f"{100 * mean.rate:.1f}",
                NONE if interval is None else f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]",
                f"{mean.successes}/{mean.completed}",
                str(mean.errors),
                letters[policy],
                NONE
                if rank is None
                else f"{rank.low}"
                if rank.low == rank.high
                else f"{rank.low}–{rank.high}",
                NONE if rank is None else f"{100 * rank.best:.0f} %",
            )
        )
    how = (
        "episodes drawn anew in pairs within tasks" if paired else "episodes of each policy drawn anew apart"
    )
    return Grid(
        "Mean over tasks in %",
        ("policy", "mean", "95 % interval", "episodes", "errors", "letters", "rank", "best"),
        (tuple(rows),),
        (
            "Policies that share a letter were not found to differ. Rank: 95 % interval by bootstrap, "
            f"{how}; best: share of resamples in which no other was better.",
        ),
    )
