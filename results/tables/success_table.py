"""The table of success rates: tasks by policies to look at, one row per score to compute with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from simloop.results.records.planned import PlannedEpisodes
from simloop.results.records.records import policy_label
from simloop.results.statistics.contrasts import Standing, family_size, standing
from simloop.results.statistics.intervals import clopper_pearson, jeffreys
from simloop.results.statistics.outcome_matrix import OutcomeMatrix
from simloop.results.statistics.scores import MeanScore, Score, score_means
from simloop.results.tables.typesetting import BELOW, NONE, Grid, head

COLUMNS = (
    "suite", "protocol", "policy", "weights", "level", "task", "episodes", "completed", "successes",
    "failures", "errors", "undecodable", "missing", "rate", "low", "high", "interval",
    "rate_if_errors_fail", "rate_if_errors_succeed", "clopper_pearson_low", "clopper_pearson_high", "jeffreys_low",
    "jeffreys_high", "new_tasks_low", "new_tasks_high",
)  # fmt: skip


def success_grids(
    scores: Sequence[Score],
    plans: Sequence[PlannedEpisodes] = (),
    outcomes: Mapping[tuple[str, str], OutcomeMatrix] | None = None,
    looked_at: int | None = None,
) -> list[Grid]:
    """A grid for each suite and protocol, so that no column mixes rules: a row per task, then the mean.

    Args:
      outcomes: Of the same episodes. With them, letters tell in every row which policies were found to
        differ, and the best is bold where it was found to be better than every other.
      looked_at: How many policies and checkpoints were tried, where it is more than are here.
    """
    means = score_means(scores)
    return [
        _grid(
            suite,
            protocol,
            [m for m in means if (m.suite, m.protocol) == (suite, protocol)],
            plans,
            (outcomes or {}).get((suite, protocol)),
            looked_at,
        )
        for suite, protocol in dict.fromkeys((mean.suite, mean.protocol) for mean in means)
    ]


def success_frame(scores: Sequence[Score]) -> pd.DataFrame:
    """A row per policy and task, and one per mean, which `level` tells apart. Rates are fractions."""
    rows = [_row(score, "task", score.task) for score in scores]
    rows += [_row(mean, "mean", "") for mean in score_means(scores)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"missing": "Int64"})


def _row(score: Score | MeanScore, level: str, task: str) -> dict[str, Any]:
    interval, bounds = score.interval(), score.bounds
    counts = (score.successes, score.completed)
    other = {
        "clopper_pearson": clopper_pearson(*counts) if isinstance(score, Score) and score.completed else None,
        "jeffreys": jeffreys(*counts) if isinstance(score, Score) and score.completed else None,
        "new_tasks": score.interval_for_new_tasks() if isinstance(score, MeanScore) else None,
    }
    return {
        "suite": score.suite,
        "protocol": score.protocol,
        "policy": policy_label(score.policy, score.weights),
        "weights": score.weights,
        "level": level,
        "task": task,
        "episodes": score.episodes,
        "completed": score.completed,
        "successes": score.successes,
        "failures": score.failures,
        "errors": score.errors,
        "undecodable": score.undecodable,
        "missing": score.missing,
        "rate": score.rate,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "interval": score.method,
        "rate_if_errors_fail": bounds.low if bounds else None,
        "rate_if_errors_succeed": bounds.high if bounds else None,
        **{f"{name}_low": ends.low if ends else None for name, ends in other.items()},
        **{f"{name}_high": ends.high if ends else None for name, ends in other.items()},
    }


def _grid(
    suite: str,
    protocol: str,
    means: Sequence[MeanScore],
    plans: Sequence[PlannedEpisodes],
    outcomes: OutcomeMatrix | None,
    looked_at: int | None,
) -> Grid:
    tasks = [score.task for score in means[0].tasks]
    standings = [Standing({}, None)] * (len(tasks) + 1)
    if outcomes is not None and len(means) > 1:
        rows_of = [outcomes.of_tasks([task]) for task in tasks] + [outcomes]
        standings = [standing(of_row, looked_at=looked_at) for of_row in rows_of]
    rows = [
        (name, *(_cell(score, row.letters.get(score.policy, "")) for score in of_row))
        for name, of_row, row in zip(
            [*tasks, f"mean of {len(tasks)}"],
            [*zip(*(mean.tasks for mean in means), strict=True), tuple(means)],
            standings,
            strict=True,
        )
    ]
    places = {mean.policy: column for column, mean in enumerate(means, start=1)}
    return Grid(
        title=f"Success in %, protocol {protocol}",
        columns=("task", *(head(policy_label(mean.policy, mean.weights)) for mean in means)),
        groups=(tuple(rows[:-1]), (rows[-1],)),
        notes=tuple(_notes(suite, protocol, means, plans, any(row.letters for row in standings), looked_at)),
        bold=frozenset((i, places[row.best]) for i, row in enumerate(standings) if row.best is not None),
    )


def _cell(score: Score | MeanScore, letters: str) -> str:
    """Rate and letters, `[low, high] successes/completed`, and how many errors there were besides."""
    interval = score.interval()
    counts = f"{score.successes}/{score.completed}" + (f" +{score.errors} err" if score.errors else "")
    letters = f" {letters}" if letters else ""
    if score.rate is None or interval is None:
        return f"{NONE}{letters}{BELOW}{counts}"
    ends = f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    return f"{100 * score.rate:.1f}{letters}{BELOW}{ends} {counts}"


def _notes(
    suite: str,
    protocol: str,
    means: Sequence[MeanScore],
    plans: Sequence[PlannedEpisodes],
    lettered: bool,
    looked_at: int | None,
) -> list[str]:
    methods = " or ".join(sorted({mean.method for mean in means if not mean.lacking}))
    notes = [
        "In brackets the 95 % Wilson interval; then successes / completed episodes."
        + (
            f" In the mean every task weighs the same; its interval ({methods}) is for these tasks."
            if methods
            else ""
        )
    ]
    if lettered:
        tried = max(looked_at or 0, len(means))
        notes.append(
            "Policies of a row that share a letter were not found to differ at the 5 % level (Holm over the "
            f"{_pairs(family_size(tried))} of {tried} policies, each row a family of "
            "its own); bold, where typeset: found to be better than every other."
        )
    new = {policy_label(mean.policy, mean.weights): mean.interval_for_new_tasks() for mean in means}
    on_progress = [
        f"{name} [{100 * ends.low:.1f}, {100 * ends.high:.1f}]" for name, ends in new.items() if ends
    ]
    if on_progress:
        notes.append(
            f"Not these tasks but new ones like them (95 % bootstrap over tasks, too narrow for fewer than about 15): "
            f"{', '.join(on_progress)}."
        )
    for mean in means:
        name = policy_label(mean.policy, mean.weights)
        if mean.lacking:
            notes.append(f"{name} has no mean: no completed episode of {_listed(mean.lacking)}.")
        if mean.errors:
            notes.append(_errors(mean))
        if mean.missing:
            planned = mean.episodes + mean.missing
            notes.append(
                f"{name}: {mean.missing} of {planned} planned episodes have not finished and are in no count."
            )
        if mean.undecodable:
            notes.append(
                f"{name}: in {mean.undecodable} of {mean.completed} episodes, tokens spelled no action."
            )
    here = [plan for plan in plans if plan.suite == suite and plan.protocol in ("", protocol)]
    if any(plan.stops_early == "limit" for plan in here):
        notes.append("The run was limited to its first episodes.")
    if any(plan.stops_early == "rule" for plan in here):
        notes.append("The run had leave to stop as soon as its question was answered: see simloop compare.")
    wanted = dict.fromkeys(policy for plan in here for policy in plan.policies)
    absent = [policy for policy in wanted if policy not in {mean.policy for mean in means}]
    if absent:
        notes.append(f"No episode has finished of {_listed(absent)}.")
    if any(mean.weights == "untrained" for mean in means):
        notes.append(
            "(untrained): the weights were drawn at random, so the rates say nothing about the model."
        )
    return notes


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"


def _errors(mean: MeanScore) -> str:
    """How many errors a policy met where, and what they could have changed."""
    tasks = [f"{score.task} {score.errors}" for score in mean.tasks if score.errors]
    note = (
        f"{policy_label(mean.policy, mean.weights)}: {mean.errors} of {mean.episodes} episodes ended in an "
        f"error and are in no rate ({_listed(tasks)})"
    )
    if mean.bounds is None:
        return note + "."
    low, high = 100 * mean.bounds.low, 100 * mean.bounds.high
    return f"{note}; the mean is {low:.1f} if all of them count as failures, {high:.1f} if as successes."


def _listed(names: Sequence[str], limit: int = 5) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
