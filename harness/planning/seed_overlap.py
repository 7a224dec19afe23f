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

    Only checkpoints written by `simloop train` record the seeds of their demonstrations.

    Raises:
      ExperimentError: With the policy and the number of episodes concerned.
    """
    for name, policy in experiment.named_policies().items():
        seeds = {} if policy.checkpoint is None else training_seeds(policy.checkpoint)
        seen = [
            spec
            for spec in plan.episodes
            if spec.policy == name and spec.seed in seeds.get(f"{spec.suite}/{spec.task}", ())
        ]
        if seen:
            raise ExperimentError(
                f"{name} was trained on the initial states of {len(seen)} of these episodes, the first being "
                f"{seen[0].task} with seed {seen[0].seed}. Choose another --seed, or give --allow-training-seeds "
                "to measure success on the training states."
            )


def training_seeds(checkpoint: Path) -> dict[str, frozenset[int]]:
    """Seeds of the demonstrations by `suite/task`; empty where the checkpoint records none."""
    recorded: Any = settings_of(checkpoint).get(DEMONSTRATIONS, {})
    return {task: frozenset(seeds) for task, seeds in recorded.items()}
