"""What a policy loses along each axis of a design of perturbations.

Axis letters: n points, u episodes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int
from pydantic import TypeAdapter

from simloop.results.records.perturbation_kinds import KINDS, plain_kind, split_perturbations
from simloop.results.records.runs import Runs
from simloop.results.statistics.designs import Design, named
from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.sensitivity import LEAST_EPISODES, RESAMPLES, Sensitivity, sensitivities

BINS = 4
"""Into which the strengths of an axis are divided where they are drawn."""
SEED = 0  # Of the bootstrap: the same records give the same intervals.
_DESIGN = TypeAdapter(Design)
_95 = 1.959964


@dataclass(frozen=True)
class DesignOutcomes:
    """Outcomes of a policy at the points of a design, and without perturbations."""

    policy: str
    suite: str
    protocol: str
    """Label of the unperturbed protocol."""
    design: Design
    control: Float64[np.ndarray, "u"]
    """1 or 0 in the episodes without perturbations; nan where they were not completed."""
    outcomes: Float64[np.ndarray, "n u"]
    """1 or 0 at each point of the design, in its order; nan as above."""
    tasks: Int[np.ndarray, "u"]


@dataclass(frozen=True)
class AxisPoint:
    """Success within a range of strengths of one axis, over all strengths of the others in the design."""

    low: float
    high: float
    """Range of strengths; a single one if both are equal."""
    points: int
    episodes: int
    rate: float
    change: float
    """Against the same episodes without perturbations."""
    interval: Interval
    """Of the change, 95 %."""


def design_outcomes(runs: Runs) -> list[DesignOutcomes]:
    """The outcomes of every policy in the runs of designs."""
    return [
        found
        for number, config in enumerate(runs.configs)
        if (design := _design(config)) is not None
        for found in _of_run(runs.episodes[runs.episodes["run"] == number], design)
    ]


def axis_curve(found: DesignOutcomes, axis: int) -> list[AxisPoint]:
    """Success by the strength of an axis: at each level, or in `BINS` ranges where strengths were drawn."""
    strengths = found.design.strengths()
    own, (kind, most) = strengths[:, axis], found.design.axes[axis]
    if found.design.method in ("latin", "sobol") and not KINDS[kind].whole:
        edges = np.linspace(0, most, BINS + 1)
        ranges = [(a, b, (own >= a) & ((own < b) | (b == most))) for a, b in itertools.pairwise(edges)]
    else:
        alone = found.design.method == "axes"
        ranges = [(level, level, own == level) for level in np.unique(own[own > 0] if alone else own)]
    made = [_axis_point(found, float(a), float(b), chosen) for a, b, chosen in ranges if chosen.any()]
    return [point for point in made if point is not None]


def _axis_point(
    found: DesignOutcomes, low: float, high: float, chosen: Bool[np.ndarray, "n"]
) -> AxisPoint | None:
    outcomes = found.outcomes[chosen]
    usable = ~np.isnan(outcomes).all(axis=0) & ~np.isnan(found.control)
    if not usable.any():
        return None
    rates = np.nanmean(outcomes[:, usable], axis=0)
    changes = rates - found.control[usable]
    interval = change_interval(changes)
    return AxisPoint(
        low, high, int(chosen.sum()), int(usable.sum()), float(rates.mean()), float(changes.mean()), interval
    )


def change_interval(changes: Float64[np.ndarray, "u"]) -> Interval:
    """95 % interval of the mean of paired changes of success in [-1, 1], one of each episode.

    Agresti and Min add half an episode to each of the four outcomes of a pair; here the changes are means over several
    points, and half an episode each of change 1 and -1 and one of change 0 are added, so that equal changes do not
    pass for certainty. It covered 95.0 to 95.5 % in the settings of docs/statistics.md.

    Reference: A. Agresti and Y. Min (2005), doi:10.1002/sim.1781.
    """
    n = len(changes) + 2
    mean = changes.sum() / n
    variance = (np.square(changes).sum() + 1) / n - mean**2
    half = _95 * math.sqrt(variance / n)
    return Interval(float(max(mean - half, -1.0)), float(min(mean + half, 1.0)))


def axis_sensitivities(found: DesignOutcomes, *, resamples: int = RESAMPLES) -> list[Sensitivity] | None:
    """Indices of the axes of a Sobol design; None for others, and where the success rate was not shown to vary.

    Episodes that were not completed at most points are left out, and then base points at which an episode is missing.
    """
    design = found.design
    if design.method != "sobol":
        return None
    arms = found.outcomes.reshape(len(design.axes) + 2, design.size, -1).transpose(1, 0, 2)
    kept = np.isnan(arms).mean(axis=(0, 1)) < 0.5
    arms, tasks = arms[:, :, kept], found.tasks[kept]
    arms = arms[~np.isnan(arms).any(axis=(1, 2))]
    _, tasks = np.unique(tasks, return_inverse=True)
    if len(arms) < 2 or not len(tasks) or np.bincount(tasks).min() < LEAST_EPISODES:
        return None
    return sensitivities(arms, tasks.astype(np.int64), np.random.default_rng(SEED), resamples=resamples)


def _design(config: Mapping[str, Any]) -> Design | None:
    written = config.get("experiment", {}).get("design")
    return None if written is None else _DESIGN.validate_python(written)


def _of_run(episodes: pd.DataFrame, design: Design) -> Iterator[DesignOutcomes]:
    split = {label: split_perturbations(label) for label in episodes["protocol"].unique()}
    points = {
        label: _point({plain_kind(kind): strength for kind, strength in strengths.items()})
        for label, (_, strengths) in split.items()
    }
    rows = [_point(named(design.kinds, row)) for row in design.strengths().tolist()]
    outcome = episodes["outcome"].map({"success": 1.0, "failure": 0.0})
    table = episodes.assign(
        success=outcome,
        point=episodes["protocol"].map(points),
        base=episodes["protocol"].map(lambda p: split[p][0]),
    )
    for (policy, suite, base), own in table.groupby(["policy", "suite", "base"], sort=True):
        wide = own.pivot(index="point", columns=["task", "episode"], values="success")
        values = wide.reindex([_point({}), *rows]).to_numpy(np.float64)
        tasks, _ = pd.factorize(wide.columns.get_level_values("task"))
        yield DesignOutcomes(
            str(policy), str(suite), str(base), design, values[0], values[1:], tasks.astype(np.int64)
        )


def _point(strengths: Mapping[str, float]) -> str:
    """Name of a point, whatever the order of its kinds."""
    return " ".join(f"{kind}={strength!r}" for kind, strength in sorted(strengths.items()))


def without_points(runs: Runs) -> Runs:
    """The runs without the points of their designs, of which there are too many for a table or figure each."""
    designed = {number for number, config in enumerate(runs.configs) if _design(config) is not None}
    if not designed:
        return runs
    perturbed = runs.episodes["protocol"].map(lambda label: bool(split_perturbations(label)[1]))
    points = perturbed & runs.episodes["run"].isin(designed)
    labels = set(runs.episodes.loc[points, "protocol"])
    plans = tuple(plan for plan in runs.plans if plan.protocol not in labels)
    return replace(runs, episodes=runs.episodes[~points], plans=plans)
