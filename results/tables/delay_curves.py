"""Success rate against the delay of the policy's answers, with paired differences to a world that stands still."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from simloop.results.records.execution_labels import FROZEN, ExecutionLabel, split_execution
from simloop.results.records.runs import Runs
from simloop.results.statistics.contrasts import Contrast
from simloop.results.statistics.early_stopping import sequential_decisions
from simloop.results.statistics.families import adjusted
from simloop.results.statistics.scores import MeanScore, score_means, score_tasks
from simloop.results.tables.grid import NONE, Grid, Row, legend, percent_cell
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions
from simloop.results.tables.perturbation_curves import change_between, rate_and_change
from simloop.results.tables.statements import family_of_changes, p_text
from simloop.results.tables.success_frame import counts_text

LOST = 0.05
"""Loss of success whose delay is reported."""
MOTION = ("held", "age_steps", "jerk", "seam_jump")
COLUMNS = (
    "suite", "protocol", "policy", "execution", "delay", "completed", "successes", "errors", "rate", "low", "high",
    "change", "change_low", "change_high", "p_value", "p_holm", "paired", "steps_to_success", *MOTION,
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A policy at one delay."""

    label: ExecutionLabel
    mean: MeanScore
    change: Contrast | None
    """Against the episodes of the policy in a world that stands still, paired where both were played; None for these
    themselves, and without them."""
    p_holm: float | None
    """p-value of the change, adjusted by Holm over all changes of all curves, with errors counted against it."""
    motion: Mapping[str, float]
    """Means over the completed episodes of `MOTION`, `held` as the share of control steps; and `steps_to_success`."""


@dataclass(frozen=True)
class DelayCurve:
    """A policy under one execution, shortest delay first."""

    suite: str
    protocol: str
    """Label of the protocol in which the world stands still."""
    policy: str
    mode: str
    points: tuple[Point, ...]

    def loss_at(self) -> tuple[float, float, float] | None:
        """Delay in control steps at which five points are lost, with its interval; inf where they are not.

        Interpolates the paired changes linearly; the interval inverts their 95 % intervals. None unless the delays are
        in control steps and there is a point without delay.
        """
        numbers = [point.label.order for point in self.points]
        if any(kind for kind, _, _ in numbers) or self.points[0].change is not None or len(self.points) < 2:
            return None
        delays = [steps for _, steps, _ in numbers]
        bounds = [(0.0, 0.0, 0.0)]
        for point in self.points[1:]:
            if point.change is None:
                return None
            bounds.append((point.change.difference, point.change.interval.low, point.change.interval.high))
        at, low, high = (_first_below(delays, values) for values in zip(*bounds, strict=True))
        return at, low, high


def delay_curves(runs: Runs) -> list[DelayCurve]:
    """The curves of the runs, sorted by suite, protocol, policy and execution; none if no answer was delayed."""
    means: dict[tuple[str, str, str, str], list[MeanScore]] = {}
    frozen: dict[tuple[str, str, str], MeanScore] = {}
    for mean in score_means(score_tasks(runs.episodes, runs.plans)):
        label = split_execution(mean.protocol)
        if label.base == mean.protocol:
            frozen[mean.suite, label.base, mean.policy] = mean
        else:
            means.setdefault((mean.suite, label.base, mean.policy, label.mode), []).append(mean)
    orders = {(one.suite, one.protocol): one.order for one in sequential_decisions(runs)}
    changes = {
        (mean.suite, mean.protocol, mean.policy): change
        for (suite, base, policy, _), found in means.items()
        for mean in found
        if (plain := frozen.get((suite, base, policy))) is not None
        and (change := change_between(runs, mean, plain, orders)) is not None
    }
    p_values = dict(zip(changes, adjusted(list(changes.values()), len(changes)), strict=True))

    def point(mean: MeanScore) -> Point:
        key = (mean.suite, mean.protocol, mean.policy)
        return Point(
            split_execution(mean.protocol),
            mean,
            changes.get(key),
            p_values.get(key),
            _motion(runs.episodes, mean),
        )

    return [
        DelayCurve(
            *key,
            tuple(
                sorted(
                    map(point, [*([plain] if (plain := frozen.get(key[:3])) else []), *found]),
                    key=lambda point: point.label.order,
                )
            ),
        )
        for key, found in sorted(means.items())
    ]


def by_protocol(curves: Sequence[DelayCurve]) -> dict[str, list[DelayCurve]]:
    """Group curves by their protocol, whose name contains the suite."""
    groups: dict[str, list[DelayCurve]] = {}
    for curve in curves:
        groups.setdefault(curve.protocol, []).append(curve)
    return groups


def delay_grids(
    curves: Sequence[DelayCurve], labels: Mapping[str, str], options: TableOptions = DEFAULT_OPTIONS
) -> list[Grid]:
    """A grid for each protocol: a group of rows per policy and execution, a row per delay."""
    return [
        Grid(
            f"Success in % under delays, protocol {protocol}",
            ("policy", "execution", "delay", "success", "change", "p (Holm)", "held", "age", "jerk", "jump"),
            tuple(
                tuple(_row(labels[curve.policy], curve.mode, point) for point in curve.points)
                for curve in here
            ),
            tuple(_notes(curves, here, options)),
            options=options,
        )
        for protocol, here in by_protocol(curves).items()
    ]


def delay_frame(curves: Sequence[DelayCurve], labels: Mapping[str, str]) -> pd.DataFrame:
    """A row per point of every curve. Rates, changes and `held` are fractions, `delay` is as in the protocol."""
    rows = []
    for curve in curves:
        for point in curve.points:
            rows.append(
                {
                    "suite": curve.suite,
                    "protocol": curve.protocol,
                    "policy": labels[curve.policy],
                    "execution": curve.mode,
                    "delay": _delay_text(point.label),
                    **rate_and_change(point.mean, point.change, point.p_holm),
                    **point.motion,
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def loss_sentence(curve: DelayCurve, label: str) -> str:
    """State the delay at which the policy has lost five points; empty if the curve cannot tell."""
    lost = curve.loss_at()
    if lost is None:
        return ""
    at, low, high = lost
    last = curve.points[-1].label.delay
    bounds = f"95 % interval from {_steps(low, last)} to {_steps(high, last)}"
    return (
        f"{label} under {curve.mode} execution has lost five points of success at a delay of {_steps(at, last)} "
        f"control steps ({bounds})."
    )


def _steps(delay: float, longest: str) -> str:
    return f"{delay:.1f}" if np.isfinite(delay) else f"more than {longest}"


def _first_below(delays: Sequence[float], changes: Sequence[float]) -> float:
    """First delay at which linearly interpolated changes reach a loss of five points; inf if none does."""
    for (d0, c0), (d1, c1) in zip(
        zip(delays, changes, strict=True), list(zip(delays, changes, strict=True))[1:], strict=False
    ):
        if c1 <= -LOST:
            return d0 if c0 <= -LOST else d0 + (d1 - d0) * (c0 + LOST) / (c0 - c1)
    return float("inf")


def _motion(episodes: pd.DataFrame, mean: MeanScore) -> dict[str, float]:
    own = episodes[
        (episodes["policy"] == mean.policy)
        & (episodes["suite"] == mean.suite)
        & (episodes["protocol"] == mean.protocol)
        & (episodes["outcome"] != "error")
    ]
    steps = own["steps"].sum()
    successes = own.loc[own["outcome"] == "success", "steps"]
    return {
        "steps_to_success": float(successes.mean()) if len(successes) else float("nan"),
        "held": float(own["held"].sum() / steps) if steps else 0.0,
        **{name: float(own[name].mean()) for name in MOTION[1:]},
    }


def _delay_text(label: ExecutionLabel) -> str:
    """Delay of a point; `none` in a world that stands still, which other executions without delay are not."""
    return "none" if f"{label.mode} at {label.delay}" == FROZEN else label.delay


def _row(label: str, mode: str, point: Point) -> Row:
    mean, change, motion = point.mean, point.change, point.motion
    return (
        label,
        mode,
        _delay_text(point.label),
        percent_cell(mean.rate, mean.interval(), counts_text(mean)),
        NONE if change is None else percent_cell(change.difference, change.interval, signed=True),
        NONE if point.p_holm is None else p_text(point.p_holm),
        f"{100 * motion['held']:.1f} %",
        f"{motion['age_steps']:.1f}",
        f"{motion['jerk']:.3f}",
        f"{motion['seam_jump']:.3f}",
    )


def _notes(curves: Sequence[DelayCurve], here: Sequence[DelayCurve], options: TableOptions) -> Iterator[str]:
    read = legend(options, "95 % interval", "successes / completed episodes")
    yield (
        "delay: time from an observation to the first action that answers it, in control steps where no unit is given, "
        "none in a world that stands still; "
        "success: mean over these tasks; change: in points, less the episodes of the same policy in a world that "
        f"stands still. {read}".rstrip()
    )
    yield (
        "held: share of control steps without an action of the policy; age: mean number of control steps since the "
        "observation of an action; jerk: mean magnitude of the third difference of commanded positions; jump: mean "
        "change of the action from one chunk to the next, both in half ranges of the actions."
    )
    if changes := [point.change for curve in curves for point in curve.points if point.change is not None]:
        yield family_of_changes(len(changes))
    if any(point.label.delay == "live" for curve in here for point in curve.points):
        yield "live: delays were those of the machine that played the episodes, so these rows cannot be repeated."
    delays = {point.label.delay for curve in here for point in curve.points}
    for delay in sorted(delay for delay in delays if delay.startswith("measured-")):
        source = delay.removeprefix("measured-").rpartition("-")[0]
        yield (
            f"{delay}: delays were drawn from the latencies measured in {source}, so these rows are the success on its "
            "device."
        )
    yield from filter(None, (loss_sentence(curve, curve.policy) for curve in here))
