"""The table of times to success: tasks by policies, mean steps up to the limit of the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from simloop.results.statistics.time_to_success import restricted_mean
from simloop.results.tables.typesetting import BELOW, NONE, Grid, head

COLUMNS = (
    "suite", "protocol", "policy", "task", "completed", "successes", "limit_steps",
    "mean_steps", "low_steps", "high_steps", "median_success_steps",
)  # fmt: skip


def time_frame(episodes: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """A row per policy and task: mean steps to success, failures counting as the limit, and its 95 % interval.

    The limit of a task is the longest episode that anyone completed on it: that of a failure, if there
    is one. The median is that of the successes alone.

    Args:
      episodes: As from `simloop.results.records.records.load`.
      labels: How policies are to be named.
    """
    rows = []
    completed = episodes[episodes["outcome"] != "error"]
    limits = completed.groupby(["suite", "protocol", "task"])["steps"].max().to_dict()
    for key, group in completed.groupby(["suite", "protocol", "policy", "task"], sort=True):
        suite, protocol, policy, task = key
        limit = int(limits[(suite, protocol, task)])
        succeeded = (group["outcome"] == "success").to_numpy(bool)
        steps = group["steps"].to_numpy(np.int64)
        mean, interval = restricted_mean(np.where(succeeded, steps, limit), succeeded, limit)
        rows.append(
            (
                suite,
                protocol,
                labels[str(policy)],
                task,
                len(group),
                int(succeeded.sum()),
                limit,
                mean,
                interval.low,
                interval.high,
                float(np.median(steps[succeeded])) if succeeded.any() else None,
            )
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def time_grids(episodes: pd.DataFrame, labels: Mapping[str, str], tasks: Sequence[str] = ()) -> list[Grid]:
    """A grid for each suite and protocol: a row per task, a column per policy in the order of `labels`.

    Args:
      tasks: Names that come first, in this order; the others follow by name.
    """
    place = {task: i for i, task in enumerate(dict.fromkeys(tasks))}
    grids = []
    for (_, protocol), group in time_frame(episodes, labels).groupby(["suite", "protocol"], sort=True):
        cells = {
            (task, policy): f"{mean:.0f}{BELOW}[{low:.0f}, {high:.0f}]"
            for task, policy, mean, low, high in zip(
                *(group[name] for name in ("task", "policy", "mean_steps", "low_steps", "high_steps")),
                strict=True,
            )
        }
        policies = [label for label in labels.values() if label in set(group["policy"])]
        limits = dict(zip(group["task"], group["limit_steps"], strict=True))
        rows = tuple(
            (task, str(limit), *(cells.get((task, policy), NONE) for policy in policies))
            for task, limit in sorted(limits.items(), key=lambda one: (place.get(one[0], len(place)), one[0]))
        )
        grids.append(
            Grid(
                title=f"Mean steps to success, protocol {protocol}",
                columns=("task", "limit", *map(head, policies)),
                groups=(rows,),
                notes=(
                    "A failure counts as the limit of the task, so that failing slow episodes makes nobody faster; "
                    "in brackets the 95 % interval. Errors are left out.",
                ),
            )
        )
    return grids
