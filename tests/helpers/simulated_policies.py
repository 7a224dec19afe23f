"""Outcomes of a policy whose dependence on perturbations is known, without a simulator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from simloop.harness.planning.experiment import Experiment
from simloop.results.statistics.designs import Design
from tests.helpers.run_folders import EPISODE, failed, write_run

RESPONSES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda x: 1 - 0.8 * x,
    lambda x: 1 - 0.4 * x**2,
    np.ones_like,
)
"""Factors of the success rate by the share of the largest strength of each axis; the last axis changes nothing."""
BEST = 0.95


def success_rates(shares: np.ndarray) -> np.ndarray:
    """Success rates [n] at points [n, k]."""
    return BEST * np.prod([f(x) for x, f in zip(shares.T, RESPONSES, strict=False)], axis=0)


def true_indices() -> np.ndarray:
    """First-order and total indices [2, k] of the product of the responses, strengths uniform and independent."""
    x = (np.arange(100_000) + 0.5) / 100_000
    values = [respond(x) for respond in RESPONSES]
    mean, square = np.array([[v.mean(), (v**2).mean()] for v in values]).T
    variance = square.prod() - (mean**2).prod()
    own = square - mean**2
    return np.array([own * (mean**2).prod() / mean**2, own * square.prod() / square]) / variance


def outcomes(design: Design, tasks: int, episodes: int, rng: np.random.Generator) -> np.ndarray:
    """Outcomes [n, u] at the points of a design, of the same episodes at all points; rates are those of every task."""
    strengths = design.strengths() / np.array([most for _, most in design.axes])
    luck = rng.random(tasks * episodes)
    return (luck < success_rates(strengths)[:, None]).astype(np.float64)


def write_design_run(
    folder: Path, design: Design, *, episodes: int, tasks: Sequence[str] = ("reach-v3",)
) -> Path:
    """A run folder of the simulated policy on a design, with its control."""
    experiment = Experiment("", "metaworld", tuple(tasks), ("expert",), episodes, design=design)
    most = dict(design.axes)
    records = []
    for spec in experiment.plan().episodes:
        strengths = {one.kind: one.strength for one in spec.protocol_of(experiment.protocol).perturbations}
        shares = np.array([[strengths.get(kind, 0.0) / most[kind] for kind in design.kinds]])
        own = dataclasses.replace(
            EPISODE, protocol=spec.protocol, task=spec.task, episode=spec.episode, seed=spec.seed
        )
        luck = np.random.default_rng(spec.seed).random()
        records.append(own if luck < success_rates(shares)[0] else failed(own))
    return write_run(folder, records, config={"experiment": experiment.to_dict()})
