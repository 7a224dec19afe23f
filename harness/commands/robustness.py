"""`simloop robustness`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from simloop.harness.commands import run
from simloop.harness.commands.described_experiment import build_experiment
from simloop.harness.commands.options import FLAT, arg, say
from simloop.harness.engine.resources import Resources
from simloop.terminal import Terminal

_DEFAULTS = run.RunOptions()
_RESOURCES = Resources()
SIZES = {"axes": 4, "grid": 3, "latin": 32, "sobol": 32}


def command(
    vary: Annotated[tuple[str, ...], arg("KIND=MOST [...]")],
    options: Annotated[run.RunOptions, FLAT] = _DEFAULTS,
    resources: Annotated[Resources, FLAT] = _RESOURCES,
    design: Annotated[Literal["axes", "grid", "latin", "sobol"], arg("{axes,grid,latin,sobol}")] = "sobol",
    size: Annotated[int | None, arg("N", "axes 4, grid 3, latin 32, sobol 32")] = None,
    design_seed: Annotated[int, arg("S")] = 0,
    worst: Annotated[int | None, arg("N", "no search")] = None,
) -> int:
    """Vary the strengths of several perturbations on a design, as one run that can be resumed.

    Examples:

      simloop robustness pi0-tiny --tasks reach --vary camera-noise=0.2 light-dim=0.8 --design axes

      simloop robustness pi0-tiny --tasks reach push --vary camera-shift=0.1 camera-noise=0.2 actuation-delay=4

      simloop robustness pi0-tiny --tasks reach --vary camera-shift=0.1 camera-noise=0.2 --worst 200 --episodes 50

    Every point of the design plays the same episodes, and so does the unperturbed control: changes are paired.
    axes varies each kind alone at N levels; grid plays all combinations of N levels; latin and sobol draw N points.
    sobol plays N points for each kind and 2 N more, a power of 2, and tells how much of the variance of the success
    rate belongs to each kind (first-order and total sensitivity, with intervals), for which every task needs four
    episodes or more. simloop table RUN --only robustness prints the tables again.

    Args:
      vary: Kinds of perturbation and their largest strengths (simloop list perturbations).
      design: Which points are played.
      size: Levels of each kind, or number of points.
      design_seed: Seed of the points that are drawn.
      worst: Search the worst of all combinations of no and the largest strength, by halving the candidates over at
        most N episodes, then play it and the control in --episodes fresh episodes of each task. Instead of --design.
    """
    from simloop.harness.planning.perturbation import Perturbation
    from simloop.results.statistics.designs import Design

    experiment, _ = build_experiment(options)
    axes = tuple((one.kind, one.strength) for one in map(Perturbation.parse, vary))
    points = Design(design, axes, size or SIZES[design], design_seed)
    experiment = dataclasses.replace(experiment, design=points)
    out = options.out or Path("runs") / f"robustness-{experiment.short_hash}"
    if worst is None:
        return run.play(experiment, out, options, resources)
    from simloop.harness.worst_corner import search_worst_corner

    console = Terminal()
    found = search_worst_corner(experiment, out, options.settings(resources, experiment), worst, console)
    if isinstance(found, str):
        say(found, console)
        return 0
    from simloop.harness.commands.options import interrupted

    return interrupted(found.episodes, found.planned, found.folder, console)
