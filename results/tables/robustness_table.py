"""Success along the axes of a design of perturbations, and how much of its variance belongs to each axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from simloop.results.records.perturbation_kinds import KINDS
from simloop.results.records.runs import Runs
from simloop.results.statistics.robustness import (
    AxisPoint,
    DesignOutcomes,
    axis_curve,
    axis_sensitivities,
    design_outcomes,
)
from simloop.results.statistics.sensitivity import LEAST_EPISODES, Index, Sensitivity
from simloop.results.tables.grid import NONE, Grid, Row, percent_cell
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions

COLUMNS = (
    "suite", "protocol", "policy", "axis", "quantity", "strength_from", "strength_to", "points", "episodes",
    "value", "low", "high",
)  # fmt: skip


@dataclass(frozen=True)
class Robustness:
    """Results of one policy on a design."""

    found: DesignOutcomes

    @cached_property
    def curves(self) -> Mapping[str, Sequence[AxisPoint]]:
        """Success along every axis, by kind of perturbation."""
        return {kind: axis_curve(self.found, axis) for axis, kind in enumerate(self.found.design.kinds)}

    @cached_property
    def sensitivities(self) -> Mapping[str, Sensitivity]:
        """Indices by kind of perturbation; empty where they cannot be told."""
        return dict(zip(self.found.design.kinds, axis_sensitivities(self.found) or [], strict=False))

    @property
    def control(self) -> float:
        """Success rate without perturbations."""
        control = self.found.control
        return float(pd.Series(control).mean())


def robustness(runs: Runs) -> list[Robustness]:
    """The results of every policy in runs of designs; none without a design."""
    return [Robustness(found) for found in design_outcomes(runs)]


def robustness_grids(
    results: Sequence[Robustness], labels: Mapping[str, str], options: TableOptions = DEFAULT_OPTIONS
) -> list[Grid]:
    """Two grids for each protocol: success along the axes, and sensitivity indices where the design tells them."""
    grids = []
    for protocol in dict.fromkeys(one.found.protocol for one in results):
        here = [one for one in results if one.found.protocol == protocol]
        grids.append(_curve_grid(here, protocol, labels, options))
        if any(one.found.design.method == "sobol" for one in here):
            grids.append(_sensitivity_grid(here, protocol, labels, options))
    return grids


def robustness_frame(results: Sequence[Robustness], labels: Mapping[str, str]) -> pd.DataFrame:
    """A row per quantity: success and its change by axis and strength, first-order and total indices by axis."""
    rows: list[tuple[object, ...]] = []
    for one in results:
        head = (one.found.suite, one.found.protocol, labels[one.found.policy])
        for kind, points in one.curves.items():
            for point in points:
                where = (point.low, point.high, point.points, point.episodes)
                rows.append((*head, kind, "success", *where, point.rate, None, None))
                rows.append(
                    (*head, kind, "change", *where, point.change, point.interval.low, point.interval.high)
                )
        for kind, found in one.sensitivities.items():
            for name, index in (("first-order", found.first), ("total", found.total)):
                ends = (index.value, index.interval.low, index.interval.high)
                rows.append((*head, kind, name, None, None, None, None, *ends))
    return pd.DataFrame(rows, columns=COLUMNS)


def _curve_grid(
    results: Sequence[Robustness], protocol: str, labels: Mapping[str, str], options: TableOptions
) -> Grid:
    groups = []
    for one in results:
        name = labels[one.found.policy]
        control: Row = (name, "none", "0", percent_cell(one.control, None, ""), NONE)
        rows = [control]
        for kind, points in one.curves.items():
            rows += [
                (
                    name,
                    kind,
                    f"{point.low:.3g}" if point.low == point.high else f"{point.low:.3g} to {point.high:.3g}",
                    percent_cell(point.rate, None, ""),
                    percent_cell(point.change, point.interval, signed=True),
                )
                for point in points
            ]
        groups.append(tuple(rows))
    kinds = dict.fromkeys(kind for one in results for kind in one.curves)
    units = "; ".join(f"{kind}: {KINDS[kind].unit}" for kind in kinds)
    return Grid(
        f"Success in % along each axis of the design, protocol {protocol}",
        ("policy", "axis", "strength", "success", "change"),
        tuple(groups),
        (
            f"strength: {units}. success: mean over the points of the design within the range, at all strengths of the "
            "other axes in it; change: in points, against the same episodes without perturbations, with the 95 % "
            "interval of Agresti and Min, which is not adjusted for the number of rows and holds for these points.",
        ),
        options=options,
    )


def _sensitivity_grid(
    results: Sequence[Robustness], protocol: str, labels: Mapping[str, str], options: TableOptions
) -> Grid:
    groups = []
    for one in results:
        name = labels[one.found.policy]
        rows: list[Row] = [
            (name, kind, _index(found.first), _index(found.total))
            for kind, found in one.sensitivities.items()
        ]
        groups.append(tuple(rows or [(name, "all", NONE, NONE)]))
    return Grid(
        f"Sensitivity of the success rate to the strength of each axis, protocol {protocol}",
        ("policy", "axis", "first-order", "total"),
        tuple(groups),
        (
            "first-order: share of the variance of the success rate over the design that would vanish on average if "
            "this strength alone were known; total: share that would remain if all others were known (Sobol indices, "
            "estimator of Janon et al. on the arms of Saltelli et al., without the noise of episodes). In brackets "
            f"95 % bootstrap intervals over points and episodes. A dash: fewer than {LEAST_EPISODES} episodes of a "
            "task, or a success rate that was not shown to vary.",
        ),
        options=options,
    )


def _index(index: Index) -> str:
    return f"{index.value:.2f} [{index.interval.low:.2f}, {index.interval.high:.2f}]"
