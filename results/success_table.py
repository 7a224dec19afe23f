"""The table of success rates: tasks by policies to look at, one row per score to compute with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from results.records import policy_label
from results.scores import MeanScore, Planned, Score, score_means
from results.typesetting import NONE, Grid

COLUMNS = (
    "suite", "protocol", "policy", "weights", "level", "task", "episodes", "completed", "successes",
    "failures", "errors", "undecodable", "missing", "rate", "low", "high", "interval",
    "rate_if_errors_fail", "rate_if_errors_succeed",
)  # fmt: skip


def success_grids(scores: Sequence[Score], plan: Planned | None = None) -> list[Grid]:
    """A grid for each suite and protocol, so that no column mixes rules: a row per task, then the mean."""
    means = score_means(scores)
    return [
        _grid(protocol, [m for m in means if (m.suite, m.protocol) == (suite, protocol)], plan)
        for suite, protocol in dict.fromkeys((mean.suite, mean.protocol) for mean in means)
    ]


def success_frame(scores: Sequence[Score]) -> pd.DataFrame:
    """A row per policy and task, and one per mean, which `level` tells apart. Rates are fractions."""
    rows = [_row(score, "task", score.task) for score in scores]
    rows += [_row(mean, "mean", "") for mean in score_means(scores)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"missing": "Int64"})


def _row(score: Score | MeanScore, level: str, task: str) -> dict[str, Any]:
    interval, bounds = score.interval(), score.bounds
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
    }


def _grid(protocol: str, means: Sequence[MeanScore], plan: Planned | None) -> Grid:
    tasks = [score.task for score in means[0].tasks]
    rows = tuple(
        (task, *(_cell(score) for score in row))
        for task, row in zip(tasks, zip(*(mean.tasks for mean in means), strict=True), strict=True)
    )
    return Grid(
        title=f"Success in %, protocol {protocol}",
        columns=("task", *(policy_label(mean.policy, mean.weights) for mean in means)),
        groups=(rows, ((f"mean of {len(tasks)}", *map(_cell, means)),)),
        notes=tuple(_notes(means, plan)),
    )


def _cell(score: Score | MeanScore) -> str:
    """`rate [low, high] successes/completed`, and how many errors there were besides."""
    interval = score.interval()
    errors = f" +{score.errors} err" if score.errors else ""
    if score.rate is None or interval is None:
        return f"{NONE} {score.successes}/{score.completed}{errors}"
    return (
        f"{100 * score.rate:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}] "
        f"{score.successes}/{score.completed}{errors}"
    )


def _notes(means: Sequence[MeanScore], plan: Planned | None) -> list[str]:
    methods = " or ".join(sorted({mean.method for mean in means if not mean.lacking}))
    notes = [
        "In brackets the 95 % Wilson interval; then successes / completed episodes."
        + (
            f" In the mean every task weighs the same; its interval ({methods}) is for these tasks."
            if methods
            else ""
        )
    ]
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
    if plan is not None and plan.suite == means[0].suite:
        absent = [policy for policy in plan.policies if policy not in {mean.policy for mean in means}]
        if absent:
            notes.append(f"No episode has finished of {_listed(absent)}.")
    if any(mean.weights == "untrained" for mean in means):
        notes.append(
            "(untrained): the weights were drawn at random, so the rates say nothing about the model."
        )
    return notes


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
