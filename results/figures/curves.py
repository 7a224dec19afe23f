"""Draw success against the strength of a perturbation, the delay of answers, and the moment of a fork."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from simloop.results.figures.rates import offsets, reach
from simloop.results.figures.style import colour, few_numbers, line, marker
from simloop.results.records.perturbation_kinds import KINDS
from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.scores import MeanScore
from simloop.results.tables.delay_curves import DelayCurve
from simloop.results.tables.fork_table import ForkPoint
from simloop.results.tables.perturbation_curves import PerturbationCurves
from simloop.results.tables.robustness_table import Robustness


def draw_perturbation(axes: Axes, curves: PerturbationCurves, labels: Mapping[str, str]) -> pd.DataFrame:
    """Mean success of every policy against the strength of a perturbation, with 95 % intervals."""
    strengths = sorted({point.strength for points in curves.of.values() for point in points})
    # Policies are drawn side by side, so that equal rates do not hide each other.
    apart = 0.15 * min((b - a for a, b in itertools.pairwise(strengths)), default=0.1)
    rows = []
    for offset, (policy, points) in zip(offsets(len(curves.of)), curves.of.items(), strict=True):
        index = list(labels).index(policy)
        at = [(point.strength, point.strength + 4 * offset * apart, point.mean) for point in points]
        rows += [(labels[policy], *row) for row in _curve(axes, at, index, labels[policy])]
    axes.set_ylim(-3, 103)
    few_numbers(axes)
    axes.set_xlabel(f"{curves.kind}: {curves.unit}")
    axes.set_ylabel("mean success in %")
    return pd.DataFrame(rows, columns=["policy", "strength", "percent", "low", "high", "episodes"])


def draw_axis(
    axes: Axes, results: Sequence[Robustness], kind: str, labels: Mapping[str, str]
) -> pd.DataFrame:
    """Change of success of every policy along one axis of a design, with 95 % intervals."""
    rows = []
    for index, one in enumerate(results):
        points = one.curves[kind]
        label = labels[one.found.policy]
        x = [(point.low + point.high) / 2 for point in points]
        changes = [100 * point.change for point in points]
        ends = [point.interval.scaled(100.0) for point in points]
        axes.errorbar(
            x, changes, reach(changes, ends), color=colour(index), linestyle=line(index), marker=marker(index),
            elinewidth=1, capsize=1.5, label=label,
        )  # fmt: skip
        rows += [
            (label, point.low, point.high, change, end.low, end.high, point.episodes)
            for point, change, end in zip(points, changes, ends, strict=True)
        ]
    axes.axhline(0, color="0.6", linewidth=0.8)
    few_numbers(axes)
    axes.set_xlabel(f"{kind}: {KINDS[kind].unit}")
    axes.set_ylabel("change of success in points")
    columns = ["policy", "strength_from", "strength_to", "points", "low", "high", "episodes"]
    return pd.DataFrame(rows, columns=columns)


def draw_delays(axes: Axes, curves: Sequence[DelayCurve], labels: Mapping[str, str]) -> pd.DataFrame:
    """Mean success of every policy and execution against the delay, with 95 % intervals.

    Delays in different units and measured ones are categories in their order.
    """
    delays = {point.label.delay: point.label.order for curve in curves for point in curve.points}
    names = sorted(delays, key=lambda name: delays[name])
    numeric = len({delays[name][0] for name in names} - {0}) == 0
    place = {name: float(name) if numeric else float(i) for i, name in enumerate(names)}
    rows = []
    for index, curve in enumerate(curves):
        apart = 0.05 * (index - (len(curves) - 1) / 2)
        at = [(point.label.delay, place[point.label.delay] + apart, point.mean) for point in curve.points]
        found = _curve(axes, at, index, f"{labels[curve.policy]}, {curve.mode}")
        rows += [(labels[curve.policy], curve.mode, *row) for row in found]
    axes.set_ylim(-3, 103)
    axes.set_xticks([place[name] for name in names], names)
    axes.set_xlabel("delay in control steps" if numeric else "delay")
    axes.set_ylabel("mean success in %")
    return pd.DataFrame(rows, columns=["policy", "execution", "delay", "percent", "low", "high", "episodes"])


def draw_forks(axes: Axes, points: Sequence[ForkPoint]) -> pd.DataFrame:
    """Success of the continuations against the query from which they began, with 95 % Wilson intervals."""
    rows = []
    for index, variant in enumerate(dict.fromkeys(point.variant for point in points)):
        own = [point for point in points if point.variant == variant]
        rates = [100 * point.rate for point in own]
        ends = [point.interval.scaled(100.0) for point in own]
        queries = [point.query for point in own]
        axes.errorbar(
            queries, rates, reach(rates, ends), color=colour(index), linestyle=line(index), marker=marker(index),
            capsize=2, label=variant,
        )  # fmt: skip
        rows += [
            (variant, query, rate, end.low, end.high)
            for query, rate, end in zip(queries, rates, ends, strict=True)
        ]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(-2, 102)
    axes.set_xlabel("query from which the episode continues")
    axes.set_ylabel("success in %")
    return pd.DataFrame(rows, columns=["variant", "query", "percent", "low", "high"])


def _curve(
    axes: Axes, points: Sequence[tuple[object, float, MeanScore]], index: int, label: str
) -> list[tuple[object, float, float, float, int]]:
    """Draw one curve; returns the value on the x axis, rate, ends of its interval in % and episodes of every point."""
    known: list[tuple[object, float, float, Interval, int]] = [
        (value, x, 100 * (mean.rate or 0.0), interval.scaled(100.0), mean.completed)
        for value, x, mean in points
        if (interval := mean.interval()) is not None
    ]
    rates, ends = [rate for *_, rate, _, _ in known], [end for *_, end, _ in known]
    axes.errorbar(
        [x for _, x, *_ in known],
        rates,
        yerr=reach(rates, ends),
        fmt=marker(index) + line(index),
        color=colour(index),
        elinewidth=1,
        capsize=1.5,
        label=label,
    )
    return [(value, rate, end.low, end.high, count) for value, _, rate, end, count in known]
