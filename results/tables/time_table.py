"""Time to success: mean control steps by task and policy, censored at the step limit of the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from simloop.results.statistics.intervals import Interval, quantile
from simloop.results.statistics.time_to_success import restricted_mean
from simloop.results.tables.grid import DEFAULT_STYLE, NONE, Cell, Grid, TableStyle

COLUMNS = (
    "suite", "protocol", "policy", "task", "completed", "successes", "limit_steps",
    "mean_steps", "low_steps", "high_steps", "median_success_steps",
)  # fmt: skip


StepLimits = Mapping[tuple[str, str, str], int]
"""Step limit by suite, protocol and task."""


def time_frame(
    episodes: pd.DataFrame, labels: Mapping[str, str], step_limits: StepLimits | None = None
) -> pd.DataFrame:
    """A row per policy and task: mean steps to success with failures censored at the limit, and its 95 % interval.

    Where no limit was recorded, it is the longest completed episode of the task by any policy: a failure, if there
    is one. The median is over the successes alone.

    Args:
      episodes: As from `simloop.results.records.records.load`.
      labels: Names to show, by policy.
      step_limits: Recorded limits, as from `Runs.step_limits`.
    """
    rows = []
    completed = episodes[episodes["outcome"] != "error"]
    limits = completed.groupby(["suite", "protocol", "task"])["steps"].max().to_dict() | dict(
        step_limits or {}
    )
    for (suite, protocol, policy, task), group in completed.groupby(
        ["suite", "protocol", "policy", "task"], sort=True
    ):
        limit = int(limits[(suite, protocol, task)])
        succeeded = (group["outcome"] == "success").to_numpy(bool)
        steps = group["steps"].to_numpy(np.int64)
        mean, interval = restricted_mean(np.where(succeeded, steps, limit), succeeded, limit)
        median = quantile(steps[succeeded].astype(np.float64), 0.5) if succeeded.any() else None
        counts = (len(group), int(succeeded.sum()))
        rows.append(
            (
                suite,
                protocol,
                labels[str(policy)],
                task,
                *counts,
                limit,
                mean,
                interval.low,
                interval.high,
                median,
            )
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def time_grids(
    episodes: pd.DataFrame,
    labels: Mapping[str, str],
    tasks: Sequence[str] = (),
    style: TableStyle = DEFAULT_STYLE,
    step_limits: StepLimits | None = None,
) -> list[Grid]:
    """A grid for each suite and protocol: a row per task, a column per policy in the order of `labels`.

    Args:
      tasks: Tasks to list first, in this order; others follow by name.
      step_limits: As in `time_frame`.
    """
    order = {task: i for i, task in enumerate(dict.fromkeys(tasks))}
    grids = []
    frame = time_frame(episodes, labels, step_limits)
    for (suite, protocol), group in frame.groupby(["suite", "protocol"], sort=True):
        names = ("task", "policy", "mean_steps", "low_steps", "high_steps")
        cells = {
            (task, policy): Cell(mean, Interval(low, high), decimals=0)
            for task, policy, mean, low, high in zip(*(group[name] for name in names), strict=True)
        }
        policies = [label for label in labels.values() if label in set(group["policy"])]
        limits = dict(zip(group["task"], group["limit_steps"], strict=True))
        rows = tuple(
            (task, str(limit), *(cells.get((task, policy), NONE) for policy in policies))
            for task, limit in sorted(limits.items(), key=lambda one: (order.get(one[0], len(order)), one[0]))
        )
        guessed = any((suite, protocol, task) not in (step_limits or {}) for task in limits)
        source = ", which is the longest completed episode where none was recorded" if guessed else ""
        legend = style.legend("95 % interval")
        grids.append(
            Grid(
                title=f"Mean steps to success, protocol {protocol}",
                columns=("task", "limit", *policies),
                groups=(rows,),
                notes=(
                    f"Failures are censored at the step limit{source}; errors are excluded. {legend}".rstrip(),
                ),
                style=style,
            )
        )
    return grids
