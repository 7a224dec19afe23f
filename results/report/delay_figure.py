"""Figure of success against the delay of a policy's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from simloop.results.report.figure_style import (
    colour,
    legend_above,
    line,
    marker,
    one_panel,
    styled,
)
from simloop.results.tables.delay_curves import DelayCurve


def delay_figure(curves: Sequence[DelayCurve], labels: Mapping[str, str]) -> Figure:
    """Mean success of every policy and execution against the delay, with 95 % intervals.

    Delays in different units and measured ones are categories in their order.
    """
    delays = {point.label.delay: point.label.order for curve in curves for point in curve.points}
    names = sorted(delays, key=lambda name: delays[name])
    numeric = len({delays[name][0] for name in names} - {0}) == 0
    at = {name: float(name) if numeric else float(i) for i, name in enumerate(names)}
    with styled():
        figure, axes = one_panel(2.2 + 0.2 * len(curves))
        for index, curve in enumerate(curves):
            known = [(point, ends) for point in curve.points if (ends := point.mean.interval()) is not None]
            rates = [100 * (point.mean.rate or 0.0) for point, _ in known]
            low = [max(0.0, rate - 100 * ends.low) for rate, (_, ends) in zip(rates, known, strict=True)]
            high = [max(0.0, 100 * ends.high - rate) for rate, (_, ends) in zip(rates, known, strict=True)]
            axes.errorbar(
                [at[point.label.delay] + 0.05 * (index - (len(curves) - 1) / 2) for point, _ in known],
                rates,
                yerr=[low, high],
                fmt=marker(index) + line(index),
                color=colour(index),
                elinewidth=1,
                capsize=1.5,
                label=f"{labels[curve.policy]}, {curve.mode}",
            )
        axes.set_ylim(-3, 103)
        axes.set_xticks([at[name] for name in names], names)
        axes.set_xlabel("delay in control steps" if numeric else "delay")
        axes.set_ylabel("mean success in %")
        legend_above(figure, axes)
    return figure
