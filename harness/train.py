"""Training with closed-loop evaluations on the way. The training itself is `simloop.policies.training`."""

from __future__ import annotations

import functools
from pathlib import Path

from rich.console import Console

from simloop.harness.engine.resources import Resources
from simloop.harness.errors import SimloopError
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol
from simloop.harness.run import run
from simloop.policies.checkpoints import CheckpointError
from simloop.policies.presets import UnknownPresetError
from simloop.policies.training.config import TrainConfig
from simloop.policies.training.loop import Evaluation
from simloop.policies.training.loop import train as train_weights
from simloop.results.records.records import read_episodes

EVALUATIONS = "evaluations"
VALIDATION_SEED = 271_828
"""Other initial states than those of default runs, which are for the final comparison."""


def train(
    config: TrainConfig,
    every: int | None,
    suite: str,
    tasks: tuple[str, ...],
    episodes: int,
    console: Console,
) -> Path:
    """Train, evaluating the exported weights every `every` steps and at the end; None for never.

    Success rates go into the curves, the runs into the folder `evaluations` of the training.

    Raises:
      SimloopError: If there is no such preset, or the checkpoint to start from does not fit.
      TrainingError, DatasetError: As `simloop.policies.training.loop.train` does.
    """
    evaluation = None
    if every is not None:
        settled = functools.partial(
            evaluate,
            preset=config.preset,
            out=config.out,
            suite=suite,
            tasks=tasks,
            episodes=episodes,
            console=console,
        )
        evaluation = Evaluation(every, settled)
    try:
        return train_weights(config, evaluation)
    except (CheckpointError, UnknownPresetError) as error:
        raise SimloopError(str(error)) from error


def evaluate(
    step: int,
    checkpoint: Path,
    *,
    preset: str,
    out: Path,
    suite: str,
    tasks: tuple[str, ...],
    episodes: int,
    console: Console,
) -> dict[str, float]:
    """Success rates of a checkpoint, over all tasks and for each; errors are counted apart."""
    experiment = Experiment(
        name=f"step-{step:07d}",
        suite=suite,
        tasks=tasks,
        policies=(f"{preset}@{checkpoint}",),
        episodes=episodes,
        seed=VALIDATION_SEED,
        protocol=named_protocol(suite),
    )
    folder = run(experiment, out / EVALUATIONS / experiment.name, Resources(), None, console).folder
    outcomes: dict[str, list[bool]] = {}
    errors = 0
    for record in read_episodes(folder):
        if record.outcome == "error":
            errors += 1
        else:
            outcomes.setdefault(record.task, []).append(record.outcome == "success")
    rates = {f"success/{task}": sum(won) / len(won) for task, won in sorted(outcomes.items())}
    everything = [won for task in outcomes.values() for won in task]
    if everything:
        rates["success"] = sum(everything) / len(everything)
    return {**rates, "errors": float(errors)}
