"""Refuse to evaluate a policy on initial states that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simloop.harness.planning.experiment import Experiment, ExperimentError
from simloop.harness.planning.plan import Plan
from simloop.policies.files.manifest import settings_of
from simloop.policies.training.demonstration import DEMONSTRATIONS


def refuse_training_seeds(experiment: Experiment, plan: Plan) -> None:
    """Refuse a plan in which a policy meets an initial state that it was trained on.

    Only checkpoints written by `simloop train` record the seeds of their demonstrations. Where a task comes with
    recorded initial states, seeds that select the same state are the same.

    Raises:
      ExperimentError: With the policy and the number of episodes concerned.
    """
    states = {task.name: task.initial_states for task in experiment.task_specs() if task.initial_states}
    for name, policy in experiment.named_policies().items():
        recorded = {} if policy.checkpoint is None else training_seeds(policy.checkpoint)
        seeds = {
            (task, _state(seed, states.get(task.partition("/")[2])))
            for task, of_task in recorded.items()
            for seed in of_task
        }
        seen = [
            spec
            for spec in plan.episodes
            if spec.policy == name
            and (f"{spec.suite}/{spec.task}", _state(spec.seed, states.get(spec.task))) in seeds
        ]
        if seen:
            other = "Evaluate other tasks" if seen[0].task in states else "Choose another --seed"
            raise ExperimentError(
                f"{name} was trained on the initial states of {len(seen)} of these episodes, the first being "
                f"{seen[0].task} with seed {seen[0].seed}. {other}, or give --allow-training-seeds "
                "to measure success on the training states."
            )


def _state(seed: int, recorded_states: int | None) -> int:
    """The initial state that a seed selects: an index into recorded states, or the seed itself."""
    return seed % recorded_states if recorded_states else seed


def training_seeds(checkpoint: Path) -> dict[str, frozenset[int]]:
    """Seeds of the demonstrations by `suite/task`; empty where the checkpoint records none."""
    recorded: Any = settings_of(checkpoint).get(DEMONSTRATIONS, {})
    return {task: frozenset(seeds) for task, seeds in recorded.items()}
