"""Draw latencies of queries on given axes: their distribution, their stages, and success against them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from simloop.results.figures.rates import reach
from simloop.results.figures.style import colour, line, log_ms, marker
from simloop.results.statistics.intervals import Interval, clustered_quantile_intervals, quantile
from simloop.results.statistics.scores import MeanScore
from simloop.results.tables.latency_table import COMPACT_STAGES, QUANTILES

HATCHES = ("", "///", "xxx", "---", "\\\\\\", "|||", "+++", "//")
"""Tell stages apart in grey."""


def draw_latencies(axes: Axes, queries: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """Cumulative distribution of query latencies, for each policy."""
    frames = []
    for index, (policy, label) in enumerate(labels.items()):
        totals = np.sort(queries.loc[queries["policy"] == policy, "total_ms"].to_numpy(np.float64))
        if not len(totals):
            continue
        # A thousand steps look like all of them and keep the file small.
        shown = np.unique(np.linspace(0, len(totals) - 1, 1000).round().astype(np.int64))
        x, y = totals[shown], (shown + 1) / len(totals)
        axes.step(x, y, line(index), color=colour(index), where="post", label=label)
        frames.append(pd.DataFrame({"policy": label, "ms": x, "share": y}))
    log_ms(axes)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("latency of a query in ms")
    axes.set_ylabel("share of queries")
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def draw_latency_stages(axes: Axes, queries: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """Median of every stage as a stacked bar per policy, with the percentiles of the total as marks.

    Medians of stages do not add up to the median of the total.
    """
    stages = [stage for stage in COMPACT_STAGES if queries[f"{stage}_ms"].to_numpy().any()]
    asked = {policy: queries[queries["policy"] == policy] for policy in labels}
    shown = [policy for policy, own in asked.items() if len(own)]
    medians = {
        p: [quantile(asked[p][f"{stage}_ms"].to_numpy(np.float64), 0.5) for stage in stages] for p in shown
    }
    starts = dict.fromkeys(shown, 0.0)
    for number, stage in enumerate(stages):
        widths = [medians[policy][number] for policy in shown]
        axes.barh(
            range(len(shown)), widths, 0.55, left=[starts[policy] for policy in shown], label=stage,
            color=colour(number), hatch=HATCHES[number % len(HATCHES)], edgecolor="white", linewidth=0.4,
        )  # fmt: skip
        starts = {policy: starts[policy] + width for policy, width in zip(shown, widths, strict=True)}
    rows = []
    for row, policy in enumerate(shown):
        totals = (asked[policy]["total_ms"] - asked[policy]["retry_ms"]).to_numpy(np.float64)
        values = {name: quantile(totals, q) for name, q in QUANTILES.items() if name != "p90"}
        for (name, value), mark in zip(values.items(), ("|", "x", "+"), strict=True):
            label = f"total {name}" if not row else None
            axes.plot([value], [row + 0.38], mark, color="black", markersize=5, label=label, linestyle="none")
        rows.append((labels[policy], *medians[policy], *values.values()))
    axes.set_yticks(range(len(shown)), [labels[policy] for policy in shown])
    axes.set_ylim(max(len(shown), 1) - 0.4, -0.5)
    axes.set_xlabel("latency of a query in ms, medians of the stages")
    axes.set_xlim(left=0)
    axes.grid(axis="y", visible=False)
    totals_names = [f"total_{name}_ms" for name in QUANTILES if name != "p90"]
    return pd.DataFrame(rows, columns=["policy", *(f"{stage}_p50_ms" for stage in stages), *totals_names])


def draw_success_against_latency(
    axes: Axes, means: Sequence[MeanScore], queries: pd.DataFrame, labels: Mapping[str, str]
) -> pd.DataFrame:
    """Mean success against the median latency of a query, both with 95 % intervals.

    Policies without a mean or without a query are left out.
    """
    rows = []
    for mean in means:
        own = queries[queries["policy"] == mean.policy]
        interval = mean.interval()
        if own.empty or mean.rate is None or interval is None:
            continue
        index = list(labels).index(mean.policy)
        totals = own["total_ms"].to_numpy(np.float64)
        groups = own.groupby(["task", "episode"]).ngroup().to_numpy(np.int64)
        median, (ends,) = quantile(totals, 0.5), clustered_quantile_intervals(totals, groups, [0.5])
        ends = ends if math.isfinite(ends.width) else Interval(median, median)
        rate, bounds = 100 * mean.rate, interval.scaled(100.0)
        axes.errorbar(
            [median],
            [rate],
            xerr=reach([median], [ends]),
            yerr=reach([rate], [bounds]),
            fmt=marker(index),
            color=colour(index),
            elinewidth=1,
            label=labels[mean.policy],
        )
        rows.append((labels[mean.policy], median, ends.low, ends.high, rate, bounds.low, bounds.high))
    log_ms(axes)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("median latency of a query in ms")
    axes.set_ylabel("mean success in %")
    columns = ["policy", "ms", "ms_low", "ms_high", "percent", "percent_low", "percent_high"]
    return pd.DataFrame(rows, columns=columns)
