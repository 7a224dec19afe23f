"""`simloop train`."""

from __future__ import annotations

from typing import Annotated

from simloop.harness.commands.options import FLAT, arg
from simloop.policies.training.config import TrainConfig
from simloop.terminal import Terminal


def command(
    config: Annotated[TrainConfig, FLAT],
    *,
    eval_every: Annotated[int | None, arg("N", "never")] = None,
    eval_suite: Annotated[str, arg("S")] = "metaworld",
    eval_tasks: Annotated[tuple[str, ...], arg("T [T ...]")] = ("MT10",),
    eval_episodes: Annotated[int, arg("N")] = 5,
) -> int:
    """Train a policy on demonstrations.

    Example:

      simloop train --preset pi0-tiny --data runs/mt10-demonstrations --out runs/pi0-tiny

    Ctrl-C saves the present step, and the same command resumes from it; after a kill, from the last one that was saved.

    Args:
      eval_every: Optimizer steps between two closed-loop evaluations of the averaged weights.
      eval_suite: Suite of these evaluations.
      eval_tasks: Tasks of these evaluations.
      eval_episodes: Episodes per task in each evaluation.
    """
    from simloop.harness.train import train

    train(config, eval_every, eval_suite, eval_tasks, eval_episodes, Terminal())
    return 0
