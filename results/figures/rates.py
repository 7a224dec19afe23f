"""Draw success rates, differences, outcomes, time to success and the evidence of sequential tests on given axes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from simloop.results.figures.style import colour, few_numbers, line, marker
from simloop.results.statistics.contrasts import MARGIN, Contrast
from simloop.results.statistics.early_stopping import SequentialDecision
from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.outcome_matrix import OutcomeMatrix
from simloop.results.statistics.scores import MeanScore, Score
from simloop.results.statistics.time_to_success import success_by_step

ROW_IN = 0.11  # Height of one policy on one task.
COLOUR_PAIRED = colour(0)
SHADES = {"success": "#0072B2", "failure": "#f0c9a8", "error": "#000000"}
"""Dark, light and black, so that outcomes differ in grey as well."""


def draw_success(axes: Axes, means: Sequence[MeanScore], labels: Mapping[str, str]) -> pd.DataFrame:
    """Success rates with 95 % intervals: a row for every task, then one for the mean, with a mark per policy.

    Args:
      means: Means of the policies under one suite and protocol.
      labels: Names to show by policy, in the order of the colours.
    """
    tasks = [score.task for score in means[0].tasks]
    names = [*tasks, f"mean of {len(tasks)}"] if len(tasks) > 1 else tasks
    rows = []
    for offset, mean in zip(offsets(len(means)), means, strict=True):
        index = list(labels).index(mean.policy)
        scores: list[Score | MeanScore] = [*mean.tasks]
        scores += [mean][: len(names) - len(tasks)]
        known = [(row, score) for row, score in enumerate(scores) if score.rate is not None]
        rates = [100 * (score.rate or 0.0) for _, score in known]
        ends = [(score.interval() or Interval(0.0, 1.0)).scaled(100.0) for _, score in known]
        axes.errorbar(
            rates,
            [row + offset for row, _ in known],
            xerr=reach(rates, ends),
            fmt=marker(index),
            color=colour(index),
            elinewidth=1,
            capsize=1.5,
            label=labels[mean.policy],
        )
        rows += [
            (labels[mean.policy], names[row], rate, end.low, end.high, score.completed)
            for (row, score), rate, end in zip(known, rates, ends, strict=True)
        ]
    if len(names) > len(tasks):
        axes.axhline(len(tasks) - 0.5, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-3, 103)
    axes.set_xlabel("success in %, 95 % interval")
    axes.grid(axis="y", visible=False)
    return pd.DataFrame(rows, columns=["policy", "task", "percent", "low", "high", "episodes"])


def success_height(means: Sequence[MeanScore]) -> float:
    """Inches that a figure of success needs."""
    return 0.6 + (ROW_IN * len(means) + 0.09) * (len(means[0].tasks) + 1)


def draw_differences(
    axes: Axes, found: Sequence[Contrast], labels: Mapping[str, str], margin: float = MARGIN
) -> pd.DataFrame:
    """Differences of success with 95 % intervals, a row per comparison, and the margin of equivalence in grey."""
    axes.axvspan(-100 * margin, 100 * margin, color="#eeeeee", linewidth=0)
    axes.axvline(0, color="#555555", linewidth=0.8)
    rows = []
    for row, one in enumerate(found):
        ends = one.interval.scaled(100.0)
        axes.errorbar(
            [100 * one.difference],
            [row],
            xerr=reach([100 * one.difference], [ends]),
            fmt="o" if one.pairs is not None else "s",
            markerfacecolor=COLOUR_PAIRED if one.pairs is not None else "white",
            color=COLOUR_PAIRED,
            elinewidth=1,
            capsize=2,
        )
        paired = one.pairs is not None
        rows.append((labels[one.a], labels[one.b], 100 * one.difference, ends.low, ends.high, paired))
    axes.set_yticks(range(len(found)), [f"{labels[one.a]}\nless {labels[one.b]}" for one in found])
    axes.set_ylim(max(len(found), 1) - 0.5, -0.5)
    axes.set_xlabel(f"difference in points, 95 % interval (grey: ± {100 * margin:g})")
    axes.grid(axis="y", visible=False)
    return pd.DataFrame(rows, columns=["policy", "less", "points", "low", "high", "paired"])


def draw_outcomes(axes: Axes, outcomes: OutcomeMatrix, labels: Mapping[str, str]) -> pd.DataFrame:
    """The outcome of every episode: a row per policy, a column per episode, tasks side by side.

    Within a task, episodes that more policies solved stand further left, so that a column shows who fails together.
    Blank: not completed.
    """
    order = np.lexsort((-np.nansum(outcomes.success, axis=1), outcomes.task))
    shown = outcomes.success[order]
    starts = np.searchsorted(outcomes.task[order], np.arange(len(outcomes.tasks) + 1))
    for row in range(len(outcomes.policies)):
        for value, name in ((1.0, "success"), (0.0, "failure")):
            columns = np.flatnonzero(shown[:, row] == value)
            spans = [(column + 0.06, 0.88) for column in columns]
            axes.broken_barh(
                spans,
                (row - 0.42, 0.84),
                facecolors=SHADES[name],
                label=name if not row else None,
                linewidth=0,
            )
    for start in starts[1:-1]:
        axes.axvline(start, color="#888888", linewidth=0.8)
    centres = (starts[1:] + starts[:-1]) / 2
    axes.set_xticks(centres, outcomes.tasks, rotation=20, ha="right")
    axes.set_yticks(range(len(outcomes.policies)), [labels[policy] for policy in outcomes.policies])
    axes.set_ylim(len(outcomes.policies) - 0.5, -0.5)
    axes.set_xlim(0, max(len(shown), 1))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    rows = [
        (labels[policy], outcomes.tasks[outcomes.task[k]], int(outcomes.success[k, column]))
        for column, policy in enumerate(outcomes.policies)
        for k in order
        if not math.isnan(outcomes.success[k, column])
    ]
    return pd.DataFrame(rows, columns=["policy", "task", "success"])


def draw_success_over_steps(
    axes: Axes, episodes: pd.DataFrame, labels: Mapping[str, str], anytime: Collection[str] = ()
) -> pd.DataFrame:
    """Share of completed episodes that have succeeded by a step, with pointwise 95 % bands.

    Tasks are pooled, and failures are censored at the largest step limit, or at the longest episode where the records
    do not hold it: a failure is never a success.

    Args:
      anytime: Policies without bands, since a stopping rule decides how many episodes they play.
    """
    completed = episodes[episodes["outcome"] != "error"]
    limit = int(completed[["steps", "max_steps"]].to_numpy().max()) if len(completed) else 1
    frames = []
    for index, (policy, label) in enumerate(labels.items()):
        own = completed[completed["policy"] == policy]
        if own.empty:
            continue
        succeeded = (own["outcome"] == "success").to_numpy(bool)
        steps = np.where(succeeded, own["steps"].to_numpy(np.int64), limit)
        curve = success_by_step(steps, succeeded)
        x = np.append(curve.steps, limit)
        share, low, high = (100 * np.append(y, y[-1]) for y in (curve.share, curve.low, curve.high))
        axes.step(x, share, line(index), color=colour(index), where="post", label=label)
        bands = policy not in anytime
        if bands:
            axes.fill_between(x, low, high, color=colour(index), alpha=0.15, step="post", linewidth=0)
        columns = {"policy": label, "step": x, "percent": share}
        frames.append(pd.DataFrame(columns | ({"low": low, "high": high} if bands else {})))
    axes.set_xlim(0, limit)
    few_numbers(axes)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("control step")
    axes.set_ylabel("succeeded so far in %")
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def draw_evidence(axes: Axes, decision: SequentialDecision) -> pd.DataFrame:
    """The e-value after every pair of a run with a stopping rule, and the level at which the run stops."""
    pairs = np.arange(len(decision.e_values) + 1)
    values = [1.0, *decision.e_values]
    level = 1 / decision.rule.alpha
    axes.step(pairs, values, color=colour(0), where="post")
    axes.axhline(level, color="#555555", linestyle="--", linewidth=1)
    axes.annotate(
        f"1/α = {level:g}: they differ on these tasks", (0.02, level), xycoords=("axes fraction", "data"), va="bottom",
        fontsize=7,
    )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlabel("pairs of episodes")
    axes.set_ylabel("e-value against equal rates on every task")
    return pd.DataFrame({"pairs": pairs, "e_value": values})


def offsets(count: int) -> Iterator[float]:
    """Offsets of `count` policies within a row of height 1."""
    for i in range(count):
        yield (i - (count - 1) / 2) * min(0.25, 0.7 / count)


def reach(values: Sequence[float], ends: Sequence[Interval]) -> np.ndarray:
    """Error bars as matplotlib takes them: lengths below and above the values, shape (2, values)."""
    return np.array(
        [
            [max(0.0, value - end.low) for value, end in zip(values, ends, strict=True)],
            [max(0.0, end.high - value) for value, end in zip(values, ends, strict=True)],
        ]
    )
