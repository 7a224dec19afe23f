"""Success rate against perturbation strength, with paired differences to the unperturbed episodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from simloop.results.records.perturbation_kinds import perturbation_kind, split_label
from simloop.results.records.runs import Runs
from simloop.results.statistics.contrasts import Contrast, contrast
from simloop.results.statistics.early_stopping import sequential_decisions
from simloop.results.statistics.families import adjusted
from simloop.results.statistics.outcome_matrix import Pair, outcome_matrices
from simloop.results.statistics.scores import MeanScore, score_means, score_tasks
from simloop.results.tables.grid import NONE, Grid, Row, legend, percent_cell
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions
from simloop.results.tables.statements import family_of_changes, p_text
from simloop.results.tables.success_frame import counts_text

COLUMNS = (
    "suite", "protocol", "perturbation", "policy", "strength", "completed", "successes", "errors", "rate",
    "low", "high", "change", "change_low", "change_high", "p_value", "p_holm", "paired",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A policy at one strength."""

    strength: float
    """0 for unperturbed episodes."""
    mean: MeanScore
    change: Contrast | None
    """Perturbed against unperturbed episodes of the policy, paired where both were played; None at strength 0 and
    if there are no unperturbed episodes."""
    p_holm: float | None
    """p-value of the change, adjusted by Holm over all changes of all curves, with errors counted against it."""


@dataclass(frozen=True)
class PerturbationCurves:
    """The curves of all policies that were evaluated under one kind of perturbation and one protocol."""

    suite: str
    protocol: str
    """Label of the unperturbed protocol."""
    kind: str
    of: Mapping[str, tuple[Point, ...]]
    """By policy, strengths ascending."""

    @property
    def unit(self) -> str:
        """Unit of the strengths."""
        kind = perturbation_kind(self.kind)
        return kind.unit if kind else ""


def perturbation_curves(runs: Runs) -> list[PerturbationCurves]:
    """The curves of the runs, sorted by suite, protocol and kind; none if no episode was perturbed."""
    found: dict[tuple[str, str, str], dict[str, dict[float, MeanScore]]] = {}
    unperturbed: dict[tuple[str, str, str], MeanScore] = {}
    for mean in score_means(score_tasks(runs.episodes, runs.plans)):
        base, kind, strength = split_label(mean.protocol)
        if kind:
            found.setdefault((mean.suite, base, kind), {}).setdefault(mean.policy, {})[strength] = mean
        else:
            unperturbed[mean.suite, mean.protocol, mean.policy] = mean
    for (suite, base, _), policies in found.items():
        for policy, by_strength in policies.items():
            if (suite, base, policy) in unperturbed:
                by_strength[0.0] = unperturbed[suite, base, policy]
    orders = {(one.suite, one.protocol): one.order for one in sequential_decisions(runs)}
    changes = {
        (key, policy, strength): change
        for key, policies in sorted(found.items())
        for policy, by_strength in policies.items()
        for strength in by_strength
        if strength
        and 0.0 in by_strength
        and (change := change_between(runs, by_strength[strength], by_strength[0.0], orders)) is not None
    }
    p_values = dict(zip(changes, adjusted(list(changes.values()), len(changes)), strict=True))
    return [
        PerturbationCurves(
            *key,
            {
                policy: tuple(
                    Point(s, by_strength[s], changes.get((key, policy, s)), p_values.get((key, policy, s)))
                    for s in sorted(by_strength)
                )
                for policy, by_strength in policies.items()
            },
        )
        for key, policies in sorted(found.items())
    ]


def perturbation_grids(
    curves: Sequence[PerturbationCurves], labels: Mapping[str, str], options: TableOptions = DEFAULT_OPTIONS
) -> list[Grid]:
    """A grid for each kind of perturbation: a group of rows per policy, a row per strength."""
    read = legend(options, "95 % interval", "successes / completed episodes")
    return [
        Grid(
            f"Success in % under {one.kind}, protocol {one.protocol}",
            ("policy", "strength", "success", "change", "p (Holm)"),
            tuple(
                tuple(_row(labels[policy], point) for point in points) for policy, points in one.of.items()
            ),
            (
                f"strength: {one.unit}; success: mean over these tasks; change: in points, perturbed less unperturbed "
                f"episodes of the same policy, {_tests(one)}. {read}".rstrip(),
                *_family_notes(curves),
            ),
            options=options,
        )
        for one in curves
    ]


def perturbation_frame(curves: Sequence[PerturbationCurves], labels: Mapping[str, str]) -> pd.DataFrame:
    """A row per policy and strength of every curve. Rates and changes are fractions."""
    rows = []
    for one in curves:
        for policy, points in one.of.items():
            for point in points:
                rows.append(
                    {
                        "suite": one.suite,
                        "protocol": one.protocol,
                        "perturbation": one.kind,
                        "policy": labels[policy],
                        "strength": point.strength,
                        **rate_and_change(point.mean, point.change, point.p_holm),
                    }
                )
    return pd.DataFrame(rows, columns=COLUMNS)


def rate_and_change(mean: MeanScore, change: Contrast | None, p_holm: float | None) -> dict[str, object]:
    """Columns of one point of a curve: its rate, and its change against the reference of the curve, as fractions."""
    interval = mean.interval()
    return {
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
        "p_holm": p_holm,
        "paired": change.pairs is not None if change else None,
    }


def change_between(
    runs: Runs, changed: MeanScore, plain: MeanScore, orders: Mapping[tuple[str, str], Sequence[Pair]]
) -> Contrast | None:
    """Compare a policy with itself under another protocol, as if these were two policies under one protocol.

    Args:
      changed: The policy under the changed protocol.
      plain: The same policy under the protocol that it is compared with.
      orders: Pairs in order, by the suite and protocol of runs with a stopping rule.
    """
    both = [changed.protocol, plain.protocol]
    episodes = runs.episodes
    own = episodes[
        (episodes["policy"] == plain.policy)
        & (episodes["suite"] == plain.suite)
        & episodes["protocol"].isin(both)
    ]
    renamed = own.assign(policy=own["protocol"], protocol=plain.protocol)
    ruled = [(frozenset(both), order) for protocol in both if (order := orders.get((plain.suite, protocol)))]
    (outcomes,) = outcome_matrices(renamed, orders={(plain.suite, plain.protocol): ruled}).values()
    return contrast(outcomes, changed.protocol, plain.protocol)


def _row(label: str, point: Point) -> Row:
    mean, change = point.mean, point.change
    return (
        label,
        f"{point.strength:g}",
        percent_cell(mean.rate, mean.interval(), counts_text(mean)),
        NONE if change is None else percent_cell(change.difference, change.interval, signed=True),
        NONE if point.p_holm is None else p_text(point.p_holm),
    )


def _family_notes(curves: Sequence[PerturbationCurves]) -> Iterator[str]:
    points = [point for one in curves for points in one.of.values() for point in points]
    if changes := [point.change for point in points if point.change is not None]:
        yield family_of_changes(len(changes))


def _tests(curves: PerturbationCurves) -> str:
    """How the changes were tested."""
    made = [point.change for points in curves.of.values() for point in points if point.change is not None]
    if not made:
        return "not available without unperturbed episodes"
    return "by " + " or ".join(
        dict.fromkeys(f"{change.test} and {change.interval_method}'s interval" for change in made)
    )
