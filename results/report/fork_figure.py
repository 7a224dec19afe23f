"""Figure of success along an episode, from forks of its queries."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from simloop.results.report.figure_style import colour, legend_above, line, marker, one_panel, styled
from simloop.results.tables.fork_table import ForkPoint


def fork_figure(points: Sequence[ForkPoint]) -> Figure:
    """Success of the continuations against the query from which they began, with 95 % Wilson intervals."""
    variants = list(dict.fromkeys(point.variant for point in points))
    with styled():
        figure, axes = one_panel(2.2 + 0.2 * len(variants))
        for index, variant in enumerate(variants):
            own = [point for point in points if point.variant == variant]
            rates = [100 * point.rate for point in own]
            arms = [
                [rate - 100 * point.interval.low for rate, point in zip(rates, own, strict=True)],
                [100 * point.interval.high - rate for rate, point in zip(rates, own, strict=True)],
            ]
            axes.errorbar(
                [point.query for point in own], rates, arms, color=colour(index), linestyle=line(index),
                marker=marker(index), capsize=2, label=variant,
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(-2, 102)
        axes.set_xlabel("query from which the episode continues")
        axes.set_ylabel("success in %")
        legend_above(figure, axes)
    return figure
