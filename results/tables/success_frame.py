"""Success rates as a frame with a row per score, to compute with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from simloop.results.records.records import policy_label
from simloop.results.statistics.intervals import clopper_pearson, jeffreys
from simloop.results.statistics.scores import MeanScore, Score, score_means

COLUMNS = (
    "suite", "protocol", "policy", "weights", "level", "task", "episodes", "completed", "successes",
    "failures", "errors", "undecodable", "invalid_actions", "missing", "rate", "low", "high", "interval",
    "rate_if_errors_fail", "rate_if_errors_succeed", "clopper_pearson_low", "clopper_pearson_high", "jeffreys_low",
    "jeffreys_high", "new_tasks_low", "new_tasks_high",
)  # fmt: skip


def success_frame(scores: Sequence[Score]) -> pd.DataFrame:
    """A row per policy and task and a row per mean; the column `level` is `task` or `mean`. Rates are in [0, 1]."""
    rows = [_row(score, "task", score.task) for score in scores]
    rows += [_row(mean, "mean", "") for mean in score_means(scores)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"missing": "Int64"})


def counts_text(score: Score | MeanScore) -> str:
    """Successes / completed episodes, and the number of errors if there are any: `27/38 +2 err`."""
    return f"{score.successes}/{score.completed}" + (f" +{score.errors} err" if score.errors else "")


def _row(score: Score | MeanScore, level: str, task: str) -> dict[str, Any]:
    interval, bounds = score.interval(), score.bounds
    counts = (score.successes, score.completed)
    fixed = isinstance(score, Score) and score.completed > 0 and not score.anytime
    other = {
        "clopper_pearson": clopper_pearson(*counts) if fixed else None,
        "jeffreys": jeffreys(*counts) if fixed else None,
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
        "invalid_actions": score.invalid_actions,
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
