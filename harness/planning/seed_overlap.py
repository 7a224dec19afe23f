"""Initial states that a policy has been trained on are no test of it."""

from __future__ import annotations

import json
from pathlib import Path

from simloop.harness.planning.experiment import ExperimentError
from simloop.harness.planning.plan import Plan
from simloop.harness.planning.policy_names import parse
from simloop.policies.training.demonstration import DEMONSTRATIONS

MANIFEST = "simloop_checkpoint.json"  # Read as JSON here: opening a checkpoint would import JAX.


def refuse_training_seeds(plan: Plan) -> None:
    """Refuse a plan in which a policy meets an initial state that it was trained on.

    Checkpoints written by `simloop train` carry the seeds of their demonstrations; of others nothing is
    known.

    Raises:
      ExperimentError: Naming how many episodes of which policy.
    """
    for name in dict.fromkeys(spec.policy for spec in plan.episodes):
        checkpoint = parse(name).checkpoint
        seeds = {} if checkpoint is None else seeds_trained_on(checkpoint)
        met = [
            spec
            for spec in plan.episodes
            if spec.policy == name and spec.seed in seeds.get(f"{spec.suite}/{spec.task}", ())
        ]
        if met:
            raise ExperimentError(
                f"{name} was trained on the initial states of {len(met)} of these episodes, the first being "
                f"{met[0].task} with seed {met[0].seed}. Choose another --seed, or say "
                "--allow-training-seeds to measure what it remembers."
            )


def seeds_trained_on(checkpoint: Path) -> dict[str, frozenset[int]]:
    """Seeds by `suite/task`; empty where the checkpoint records none."""
    if not (checkpoint / MANIFEST).is_file():
        return {}
    settings = json.loads((checkpoint / MANIFEST).read_text()).get("config", {})
    return {task: frozenset(seeds) for task, seeds in settings.get(DEMONSTRATIONS, {}).items()}
