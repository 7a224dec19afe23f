"""Time to success: mean control steps by task and policy, censored at the step limit of the task."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from simloop.results.statistics.intervals import Interval, quantile
from simloop.results.statistics.time_to_success import restricted_mean
from simloop.results.tables.grid import NONE, Cell, Grid, legend
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions

COLUMNS = (
    "suite", "protocol", "policy", "task", "completed", "successes", "limit_steps",
    "mean_steps", "low_steps", "high_steps", "median_success_steps",
)  # fmt: skip


def time_frame(
    episodes: pd.DataFrame, labels: Mapping[str, str], anytime: Collection[str] = ()
) -> pd.DataFrame:
    """A row per policy and task: mean steps to success with failures censored at the limit, and its 95 % interval.

    The limit is the shortest that was recorded for the task, by any policy. Without one there is no mean, since the
    longest episode need not have reached it. The median is over the successes alone.

    Args:
      episodes: As from `simloop.results.records.frames.load`.
      labels: Names to show, by policy.
      anytime: Policies without intervals, since a stopping rule decides how many episodes they play.
    """
    rows = []
    completed = episodes[episodes["outcome"] != "error"]
    limits = completed.groupby(["suite", "protocol", "task"])["max_steps"].min().to_dict()
    for (suite, protocol, policy, task), group in completed.groupby(
        ["suite", "protocol", "policy", "task"], sort=True
    ):
        limit = int(limits[(suite, protocol, task)]) or None  # 0 if an episode does not tell its limit.
        succeeded = (group["outcome"] == "success").to_numpy(bool)
        steps = group["steps"].to_numpy(np.int64)
        mean, interval = None, None
        if limit is not None:
            mean, interval = restricted_mean(np.where(succeeded, steps, limit), succeeded, limit)
        if str(policy) in anytime:
            interval = None
        median = quantile(steps[succeeded].astype(np.float64), 0.5) if succeeded.any() else None
        ends = (interval.low, interval.high) if interval else (None, None)
        counts = (len(group), int(succeeded.sum()))
        rows.append((suite, protocol, labels[str(policy)], task, *counts, limit, mean, *ends, median))
    return pd.DataFrame(rows, columns=COLUMNS).astype(
        dict.fromkeys(COLUMNS[-4:], float) | {"limit_steps": "Int64"}
    )


def time_grids(
    episodes: pd.DataFrame,
    labels: Mapping[str, str],
    tasks: Sequence[str] = (),
    options: TableOptions = DEFAULT_OPTIONS,
    anytime: Collection[str] = (),
) -> list[Grid]:
    """A grid for each suite and protocol: a row per task, a column per policy in the order of `labels`.

    Args:
      tasks: Tasks to list first, in this order; others follow by name.
      anytime: As in `time_frame`.
    """
    order = {task: i for i, task in enumerate(dict.fromkeys(tasks))}
    grids = []
    frame = time_frame(episodes, labels, anytime)
    for (_, protocol), group in frame.groupby(["suite", "protocol"], sort=True):
        names = ("task", "policy", "mean_steps", "low_steps", "high_steps")
        cells = {
            (task, policy): Cell(*_measured(mean, low, high), decimals=0)
            for task, policy, mean, low, high in zip(*(group[name] for name in names), strict=True)
        }
        policies = [label for label in labels.values() if label in set(group["policy"])]
        limits = dict(zip(group["task"], group["limit_steps"], strict=True))
        rows = tuple(
            (
                task,
                NONE if pd.isna(limit) else str(limit),
                *(cells.get((task, policy), NONE) for policy in policies),
            )
            for task, limit in sorted(limits.items(), key=lambda one: (order.get(one[0], len(order)), one[0]))
        )
        notes = [
            f"Failures are censored at the step limit; errors are excluded. {legend(options, '95 % interval')}".rstrip()
        ]
        if unknown := [task for task, limit in limits.items() if pd.isna(limit)]:
            notes.append(f"No mean where the records do not hold the step limit: {', '.join(unknown)}.")
        if any(labels[policy] in policies for policy in anytime):
            notes.append("No intervals where a stopping rule decides the number of episodes.")
        grids.append(
            Grid(
                title=f"Mean steps to success, protocol {protocol}",
                columns=("task", "limit", *policies),
                groups=(rows,),
                notes=tuple(notes),
                options=options,
            )
        )
    return grids


def _measured(mean: float, low: float, high: float) -> tuple[float | None, Interval | None]:
    return None if pd.isna(mean) else mean, None if pd.isna(low) else Interval(low, high)
