"""Training with closed-loop evaluations between steps; the training itself is in `simloop.policies.training`."""

from __future__ import annotations

import functools
from pathlib import Path

from rich.console import Console

from simloop.harness.interrupts import noted_interruption
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol
from simloop.policies.training.config import TrainConfig
from simloop.policies.training.loop import PeriodicEvaluation
from simloop.policies.training.loop import train as train_weights
from simloop.results.records.records import read_episodes

EVALUATIONS = "evaluations"
VALIDATION_SEED = 271_828
"""Root of the initial states of evaluations, which differ from those of default runs."""


def train(
    config: TrainConfig,
    every: int | None,
    suite: str,
    tasks: tuple[str, ...],
    episodes: int,
    console: Console,
) -> Path:
    """Train, evaluating the exported weights every `every` steps and at the end; None for never.

    Success rates are added to the curves; the runs are in the folder `evaluations` of the training run. The first
    Ctrl-C or SIGTERM ends training after the present step, which is saved; a second one at once.

    Raises:
      KeyboardInterrupt: After such an end.
      UnknownPresetError, TrainingError, DatasetError, CheckpointError: As in `simloop.policies.training.loop.train`.
    """
    evaluation = None
    if every is not None:
        evaluate_checkpoint = functools.partial(
            evaluate,
            preset=config.preset,
            out=config.out,
            suite=suite,
            tasks=tasks,
            episodes=episodes,
            console=console,
        )
        evaluation = PeriodicEvaluation(every, evaluate_checkpoint)
    with noted_interruption() as interrupted:
        return train_weights(config, evaluation, interrupted)


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
    """Success rates of a checkpoint, over all tasks and by task, and the number of episodes with errors."""
    from simloop.harness.preparation import RunSettings
    from simloop.harness.run import run  # Training without evaluations needs no Ray.

    experiment = Experiment(
        name=f"step-{step:07d}",
        suite=suite,
        tasks=tasks,
        policies=(f"{preset}@{checkpoint}",),
        episodes=episodes,
        seed=VALIDATION_SEED,
        protocol=named_protocol(suite),
    )
    folder = run(experiment, out / EVALUATIONS / experiment.name, RunSettings(), console).folder
    outcomes: dict[str, list[bool]] = {}
    errors = 0
    for record in read_episodes(folder):
        if record.outcome == "error":
            errors += 1
        else:
            outcomes.setdefault(record.task, []).append(record.outcome == "success")
    rates = {f"success/{task}": sum(of_task) / len(of_task) for task, of_task in sorted(outcomes.items())}
    completed = [success for of_task in outcomes.values() for success in of_task]
    if completed:
        rates["success"] = sum(completed) / len(completed)
    return {**rates, "errors": float(errors)}
