"""Search for the combination of perturbations under which a policy succeeds least."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from simloop.harness.planning.experiment import Experiment, ExperimentError
from simloop.harness.preparation import RunSettings
from simloop.harness.run import RunResult, run
from simloop.results.records.runs import load_runs
from simloop.results.statistics.contrasts import contrast
from simloop.results.statistics.designs import Design, named
from simloop.results.statistics.outcome_matrix import OutcomeMatrix
from simloop.results.statistics.robustness import DesignOutcomes, design_outcomes
from simloop.results.tables.statements import counted, percent, signed, signed_interval

Corner = tuple[float, ...]


def search_worst_corner(
    experiment: Experiment, out: Path, settings: RunSettings, budget: int, console: Console
) -> str | RunResult:
    """Find the worst combination of no and the largest strength of each axis, and state its success.

    Successive halving: in every round the remaining corners and the control play further episodes, and the half with
    the fewest successes so far remains. A corner that was selected for its failures has been unlucky, too; its success
    is therefore estimated in fresh episodes, and compared with the control in the same ones. Rounds are runs in
    folders of `out`, each of which is resumed.

    Args:
      experiment: One policy, with a design whose axes are searched, and the number of fresh episodes of each task.
      budget: Number of episodes for the selection, at most.

    Returns:
      A statement to quote, or the result of a run that was interrupted.

    Raises:
      ExperimentError: If the budget does not suffice, or there are several policies.

    Reference: Z. Karnin, T. Koren and O. Somekh (2013), Almost optimal exploration in multi-armed bandits, ICML.
    """
    design = experiment.design
    if design is None or len(experiment.policies) != 1:
        raise ExperimentError(f"The worst corner is searched for one policy; got {len(experiment.policies)}.")
    corners, tasks = list(design.corners()), len(experiment.task_specs())
    rounds = max(1, math.ceil(math.log2(len(corners))))
    least = rounds * (len(corners) + 1) * tasks
    if budget < least:
        raise ExperimentError(
            f"--worst needs at least {least} episodes for {counted(len(corners), 'corner')} and "
            f"{counted(tasks, 'task')}; got {budget}."
        )
    successes, first, spent = np.zeros(len(corners)), 0, 0
    alive = list(range(len(corners)))
    for number in range(rounds):
        episodes = budget // (rounds * (len(alive) + 1) * tasks)
        played = _play(experiment, [corners[i] for i in alive], first, episodes, out / f"round-{number + 1}")
        result = run(*played, settings, console)
        if result.interrupted:
            return result
        successes[alive] += np.nansum(_outcomes(result.folder).outcomes, axis=1)
        first, spent = first + episodes, spent + result.episodes
        # Corners that remain have played the same episodes, so that their numbers of successes can be compared.
        alive = sorted(sorted(alive, key=lambda i: successes[i])[: math.ceil(len(alive) / 2)])
    worst = corners[alive[0]]
    result = run(*_play(experiment, [worst], first, experiment.episodes, out / "estimate"), settings, console)
    return result if result.interrupted else _statement(result.folder, worst, len(corners), spent)


def _play(
    experiment: Experiment, corners: Sequence[Corner], first: int, episodes: int, out: Path
) -> tuple[Experiment, Path]:
    """The experiment that plays some corners from an episode on, and its folder."""
    assert experiment.design is not None
    design = Design("points", experiment.design.axes, rows=tuple(corners))
    return dataclasses.replace(experiment, design=design, first=first, episodes=episodes), out


def _outcomes(folder: Path) -> DesignOutcomes:
    (found,) = design_outcomes(load_runs(folder))
    return found


def _statement(folder: Path, worst: Corner, corners: int, spent: int) -> str:
    found = _outcomes(folder)
    success = np.stack([found.outcomes[0], found.control], axis=1)
    names = tuple(map(str, range(found.tasks.max() + 1)))
    outcomes = OutcomeMatrix(
        found.suite, found.protocol, ("worst", "control"), names, found.tasks, success, np.ones_like(success)
    )
    change = contrast(outcomes, "worst", "control")
    where = " ".join(f"{kind}={strength:g}" for kind, strength in named(found.design.kinds, worst).items())
    selected = f"{found.policy}: the worst of {counted(corners, 'corner')} is {where}, selected over {spent} episodes"
    if change is None:
        return f"{selected}; none of the fresh episodes was completed by both."
    return (
        f"{selected}. In {change.episodes_a} fresh episodes it succeeds in {percent(change.rate_a)}, against "
        f"{percent(change.rate_b)} without perturbations in the same episodes: {signed(change.difference)} points, "
        f"95 % interval {signed_interval(change.interval)} ({change.interval_method})."
    )
