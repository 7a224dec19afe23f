"""Figures of runs for papers: success, differences, latency, time to success, perturbations, evidence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from simloop.results.report.figure_style import (
    colour,
    few_numbers,
    legend_above,
    line,
    log_ms,
    marker,
    one_panel,
    styled,
)
from simloop.results.statistics.contrasts import MARGIN, Contrast
from simloop.results.statistics.early_stopping import SequentialDecision
from simloop.results.statistics.intervals import Interval, clustered_quantile_intervals, quantile
from simloop.results.statistics.scores import MeanScore, Score
from simloop.results.statistics.time_to_success import success_by_step
from simloop.results.tables.perturbation_curves import PerturbationCurves

ROW_IN = 0.16  # Height of one policy on one task.
LEGEND_ROW_IN = 0.14  # Height of one name in the legend, added to that of the panel.


def success_figure(means: Sequence[MeanScore], labels: Mapping[str, str]) -> Figure:
    """Success rates with 95 % intervals: a row for every task, then one for the mean, with a mark per policy.

    Args:
      means: Means of the policies under one suite and protocol.
      labels: Names to show by policy, in the order of the colours.
    """
    tasks = [score.task for score in means[0].tasks]
    names = [*tasks, f"mean of {len(tasks)}"] if len(tasks) > 1 else tasks
    with styled():
        figure, axes = one_panel(0.5 + LEGEND_ROW_IN * len(means) + (ROW_IN * len(means) + 0.1) * len(names))
        for offset, mean in zip(_offsets(len(means)), means, strict=True):
            index = list(labels).index(mean.policy)
            scores: list[Score | MeanScore] = [*mean.tasks]
            scores += [mean][: len(names) - len(tasks)]
            known = [(row, score) for row, score in enumerate(scores) if score.rate is not None]
            rates = [100 * (score.rate or 0.0) for _, score in known]
            ends = [score.interval() or Interval(0.0, 1.0) for _, score in known]
            axes.errorbar(
                rates,
                [row + offset for row, _ in known],
                xerr=_reach(rates, [end.scaled(100.0) for end in ends]),
                fmt=marker(index),
                color=colour(index),
                elinewidth=1,
                capsize=1.5,
                label=labels[mean.policy],
            )
        if len(names) > len(tasks):
            axes.axhline(len(tasks) - 0.5, color="#888888", linewidth=0.8)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(-3, 103)
        figure.supxlabel("success in %, 95 % interval", fontsize=8)
        axes.grid(axis="y", visible=False)
        legend_above(figure, axes)
    return figure


def forest_figure(found: Sequence[Contrast], labels: Mapping[str, str], margin: float = MARGIN) -> Figure:
    """Differences of success rates with 95 % intervals, a row per comparison, and the margin of equivalence in grey."""
    with styled():
        figure, axes = one_panel(0.7 + 0.32 * len(found))
        axes.axvspan(-100 * margin, 100 * margin, color="#eeeeee", linewidth=0)
        axes.axvline(0, color="#555555", linewidth=0.8)
        for row, one in enumerate(found):
            ends = one.interval.scaled(100.0)
            axes.errorbar(
                [100 * one.difference],
                [row],
                xerr=_reach([100 * one.difference], [ends]),
                fmt="o" if one.pairs is not None else "s",
                markerfacecolor=COLOUR_PAIRED if one.pairs is not None else "white",
                color=COLOUR_PAIRED,
                elinewidth=1,
                capsize=2,
            )
        axes.set_yticks(range(len(found)), [f"{labels[one.a]}\nless {labels[one.b]}" for one in found])
        axes.set_ylim(max(len(found), 1) - 0.5, -0.5)
        figure.supxlabel(f"difference in points, 95 % interval (grey: ± {100 * margin:g})", fontsize=8)
        axes.grid(axis="y", visible=False)
    return figure


COLOUR_PAIRED = colour(0)


def pareto_figure(means: Sequence[MeanScore], queries: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Mean success against the median latency of a query, both with 95 % intervals.

    Policies without a mean or without a query are left out.
    """
    with styled():
        figure, axes = one_panel(2.3 + LEGEND_ROW_IN * len(labels))
        for mean in means:
            own = queries[queries["policy"] == mean.policy]
            interval = mean.interval()
            if own.empty or mean.rate is None or interval is None:
                continue
            index = list(labels).index(mean.policy)
            totals = own["total_ms"].to_numpy(np.float64)
            median, (ends,) = (
                quantile(totals, 0.5),
                clustered_quantile_intervals(
                    totals,
                    own.groupby(["task", "episode"]).ngroup().to_numpy(np.int64),
                    [0.5],
                ),
            )
            ends = ends if math.isfinite(ends.width) else Interval(median, median)
            axes.errorbar(
                [median],
                [100 * mean.rate],
                xerr=_reach([median], [ends]),
                yerr=_reach([100 * mean.rate], [interval.scaled(100.0)]),
                fmt=marker(index),
                color=colour(index),
                elinewidth=1,
                label=labels[mean.policy],
            )
        log_ms(axes)
        axes.set_ylim(-3, 103)
        axes.set_xlabel("median latency of a query in ms")
        axes.set_ylabel("mean success in %")
        legend_above(figure, axes)
    return figure


def latency_figure(queries: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Cumulative distribution of query latencies, for each policy."""
    with styled():
        figure, axes = one_panel(2.2 + LEGEND_ROW_IN * len(labels))
        for index, (policy, label) in enumerate(labels.items()):
            totals = np.sort(queries.loc[queries["policy"] == policy, "total_ms"].to_numpy(np.float64))
            if not len(totals):
                continue
            # A thousand steps look like all of them and keep the file small.
            shown = np.unique(np.linspace(0, len(totals) - 1, 1000).round().astype(np.int64))
            axes.step(
                totals[shown],
                (shown + 1) / len(totals),
                line(index),
                color=colour(index),
                where="post",
                label=label,
            )
        log_ms(axes)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("latency of a query in ms")
        axes.set_ylabel("share of queries")
        legend_above(figure, axes)
    return figure


def success_over_steps_figure(
    episodes: pd.DataFrame, labels: Mapping[str, str], anytime: Collection[str] = ()
) -> Figure:
    """Share of completed episodes that have succeeded by a step, with pointwise 95 % bands.

    Tasks are pooled, and failures are censored at the largest step limit, or at the longest episode where the records
    do not hold it: a failure is never a success.

    Args:
      anytime: Policies without bands, since a stopping rule decides how many episodes they play.
    """
    completed = episodes[episodes["outcome"] != "error"]
    limit = int(completed[["steps", "max_steps"]].to_numpy().max()) if len(completed) else 1
    with styled():
        figure, axes = one_panel(2.2 + LEGEND_ROW_IN * len(labels))
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
            if policy not in anytime:
                axes.fill_between(x, low, high, color=colour(index), alpha=0.15, step="post", linewidth=0)
        axes.set_xlim(0, limit)
        axes.set_ylim(-2, 102)
        axes.set_xlabel("control step")
        axes.set_ylabel("succeeded so far in %")
        legend_above(figure, axes)
    return figure


def perturbation_figure(curves: PerturbationCurves, labels: Mapping[str, str]) -> Figure:
    """Mean success of every policy against the strength of a perturbation, with 95 % intervals."""
    strengths = sorted({point.strength for points in curves.of.values() for point in points})
    # Policies are drawn side by side, so that equal rates do not hide each other.
    gaps = [b - a for a, b in itertools.pairwise(strengths)]
    apart = 0.15 * min(gaps, default=0.1)
    with styled():
        figure, axes = one_panel(2.2 + LEGEND_ROW_IN * len(curves.of))
        for offset, (policy, points) in zip(_offsets(len(curves.of)), curves.of.items(), strict=True):
            index = list(labels).index(policy)
            known = [(point, ends) for point in points if (ends := point.mean.interval()) is not None]
            rates = [100 * (point.mean.rate or 0.0) for point, _ in known]
            axes.errorbar(
                [point.strength + 4 * offset * apart for point, _ in known],
                rates,
                yerr=_reach(rates, [ends.scaled(100.0) for _, ends in known]),
                fmt=marker(index) + line(index),
                color=colour(index),
                elinewidth=1,
                capsize=1.5,
                label=labels[policy],
            )
        axes.set_ylim(-3, 103)
        few_numbers(axes)
        figure.supxlabel(f"{curves.kind}: {curves.unit}", fontsize=8)
        axes.set_ylabel("mean success in %")
        legend_above(figure, axes)
    return figure


def evidence_figure(decision: SequentialDecision) -> Figure:
    """The e-value after every pair of a run with a stopping rule, and the level at which the run stops."""
    with styled():
        figure, axes = one_panel(2.0)
        pairs = np.arange(len(decision.e_values) + 1)
        axes.step(pairs, [1.0, *decision.e_values], color=colour(0), where="post")
        axes.axhline(1 / decision.rule.alpha, color="#555555", linestyle="--", linewidth=1)
        axes.annotate(
            f"1/α = {1 / decision.rule.alpha:g}: they differ on these tasks", (0.02, 1 / decision.rule.alpha),
            xycoords=("axes fraction", "data"), va="bottom", fontsize=7,
        )  # fmt: skip
        axes.set_yscale("log")
        axes.set_xlabel("pairs of episodes")
        axes.set_ylabel("e-value against equal rates on every task")
    return figure


def _offsets(count: int) -> Iterator[float]:
    """Offsets of `count` policies within a row of height 1."""
    for i in range(count):
        yield (i - (count - 1) / 2) * min(0.25, 0.7 / count)


def _reach(values: Sequence[float], ends: Sequence[Interval]) -> np.ndarray:
    """Error bars as matplotlib takes them: lengths below and above the values, shape (2, values)."""
    return np.array(
        [
            [max(0.0, value - end.low) for value, end in zip(values, ends, strict=True)],
            [max(0.0, end.high - value) for value, end in zip(values, ends, strict=True)],
        ]
    )
