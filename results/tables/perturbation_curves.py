"""How much success is left under a perturbation, strength by strength, and what that is less than undisturbed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from simloop.results.records.perturbation_kinds import KINDS, split_label
from simloop.results.records.runs import Runs
from simloop.results.statistics.contrasts import Contrast, adjusted, contrast
from simloop.results.statistics.outcome_matrix import outcome_matrices
from simloop.results.statistics.scores import MeanScore, score_means, score_tasks
from simloop.results.tables.statements import p_text, signed
from simloop.results.tables.typesetting import BELOW, NONE, Grid

COLUMNS = (
    "suite", "protocol", "perturbation", "policy", "strength", "completed", "successes", "errors", "rate",
    "low", "high", "change", "change_low", "change_high", "p_value", "p_holm", "paired",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A policy at one strength."""

    strength: float
    """0 for undisturbed."""
    mean: MeanScore
    change: Contrast | None
    """Against the same policy undisturbed, in the same episodes where both were played; None for the undisturbed
    episodes themselves and where there are none."""
    p_holm: float | None
    """p-value of the change among all changes of the figure, after Holm."""


@dataclass(frozen=True)
class PerturbationCurves:
    """All policies that were played under one kind of perturbation, under otherwise the same rules."""

    suite: str
    protocol: str
    """Label of the undisturbed protocol."""
    kind: str
    of: Mapping[str, tuple[Point, ...]]
    """By policy, strengths ascending."""

    @property
    def unit(self) -> str:
        """What strengths count."""
        return KINDS[self.kind].unit


def perturbation_curves(runs: Runs) -> list[PerturbationCurves]:
    """The curves that the runs hold; none where nothing was disturbed."""
    found: dict[tuple[str, str, str], dict[str, dict[float, MeanScore]]] = {}
    undisturbed: dict[tuple[str, str, str], MeanScore] = {}
    for mean in score_means(score_tasks(runs.episodes, runs.plans)):
        base, kind, strength = split_label(mean.protocol)
        if kind:
            found.setdefault((mean.suite, base, kind), {}).setdefault(mean.policy, {})[strength] = mean
        else:
            undisturbed[mean.suite, mean.protocol, mean.policy] = mean
    curves = []
    for (suite, base, kind), policies in sorted(found.items()):
        for policy, by_strength in policies.items():
            if (suite, base, policy) in undisturbed:
                by_strength[0.0] = undisturbed[suite, base, policy]
        changes = {
            (policy, strength): change
            for policy, by_strength in policies.items()
            for strength in by_strength
            if strength and (change := _change(runs.episodes, policy, by_strength, strength)) is not None
        }
        p_values = dict(zip(changes, adjusted(list(changes.values()), 2), strict=True))
        of = {
            policy: tuple(
                Point(s, by_strength[s], changes.get((policy, s)), p_values.get((policy, s)))
                for s in sorted(by_strength)
            )
            for policy, by_strength in policies.items()
        }
        curves.append(PerturbationCurves(suite, base, kind, of))
    return curves


def perturbation_grids(curves: Sequence[PerturbationCurves], labels: Mapping[str, str]) -> list[Grid]:
    """A grid for each kind of perturbation: a group of rows per policy, a row per strength."""
    return [
        Grid(
            f"Success in % under {one.kind}, protocol {one.protocol}",
            ("policy", "strength", "success", "change", "p (Holm)"),
            tuple(
                tuple(_row(labels[policy], point) for point in points) for policy, points in one.of.items()
            ),
            (
                f"Strength: {one.unit}. Success: mean over tasks, its 95 % interval for these tasks, successes / "
                "completed episodes. Change: in points, with its 95 % interval, against the same policy undisturbed, "
                + _how([point.change for points in one.of.values() for point in points])
                + ".",
            ),
            labels=1,
        )
        for one in curves
    ]


def perturbation_frame(curves: Sequence[PerturbationCurves], labels: Mapping[str, str]) -> pd.DataFrame:
    """A row per policy and strength of every curve. Rates and changes are fractions."""
    rows = []
    for one in curves:
        for policy, points in one.of.items():
            for point in points:
                mean, change, interval = point.mean, point.change, point.mean.interval()
                rows.append(
                    {
                        "suite": one.suite,
                        "protocol": one.protocol,
                        "perturbation": one.kind,
                        "policy": labels[policy],
                        "strength": point.strength,
                        "completed": mean.completed,
                        "successes": mean.successes,
                        "errors": mean.errors,
                        "rate": mean.rate,
                        "low": interval.low if interval else None,
                        "high": interval.high if interval else None,
                        "change": change.difference if change else None,
                        "change_low": change.interval.low if change else None,
                        "change_high": change.interval.high if change else None,
                        "p_value": change.p_value if change else None,
                        "p_holm": point.p_holm,
                        "paired": change.pairs is not None if change else None,
                    }
                )
    return pd.DataFrame(rows, columns=COLUMNS)


def _change(
    episodes: pd.DataFrame, policy: str, by_strength: Mapping[float, MeanScore], strength: float
) -> Contrast | None:
    """A policy at a strength against itself undisturbed, as if these were two policies under one protocol."""
    if 0.0 not in by_strength:
        return None
    disturbed, plain = by_strength[strength], by_strength[0.0]
    own = episodes[
        (episodes["policy"] == policy)
        & (episodes["suite"] == plain.suite)
        & episodes["protocol"].isin([disturbed.protocol, plain.protocol])
    ]
    renamed = own.assign(policy=own["protocol"], protocol=plain.protocol)
    (outcomes,) = outcome_matrices(renamed).values()
    return contrast(outcomes, disturbed.protocol, plain.protocol)


def _row(label: str, point: Point) -> tuple[str, ...]:
    mean, change, interval = point.mean, point.change, point.mean.interval()
    counts = f"{mean.successes}/{mean.completed}" + (f" +{mean.errors} err" if mean.errors else "")
    if mean.rate is None or interval is None:
        success = f"{NONE}{BELOW}{counts}"
    else:
        ends = f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
        success = f"{100 * mean.rate:.1f}{BELOW}{ends} {counts}"
    return (
        label,
        f"{point.strength:g}",
        success,
        NONE
        if change is None
        else f"{signed(change.difference)}{BELOW}[{signed(change.interval.low)}, {signed(change.interval.high)}]",
        NONE if point.p_holm is None else p_text(point.p_holm),
    )


def _how(changes: Sequence[Contrast | None]) -> str:
    """How changes were tested, in the words of those that there are."""
    made = [change for change in changes if change is not None]
    if not made:
        return "which these runs do not hold"
    tests = dict.fromkeys(f"{change.test} and {change.interval_method}'s interval" for change in made)
    return "by " + " or ".join(tests)
