"""How smoothly an episode's actions move the robot.

Axis letters: n control steps, a action size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from simloop.envs.interface import TaskSpec


class Motion(NamedTuple):
    """Smoothness of executed actions, in half ranges of the task's actions; grippers do not count."""

    jerk: float
    """Mean magnitude of the third difference of commanded positions: second differences of displacements, third
    differences of targets. 0 for episodes that are too short."""
    seam_jump: float
    """Mean change of the action at steps whose action comes from another chunk than the step before. 0 without any."""


def motion(executed: Float32[np.ndarray, "n a"], chunks: Sequence[int], task: TaskSpec) -> Motion:
    """Return the smoothness of an episode.

    Args:
      executed: Actions in order of execution.
      chunks: Number of the chunk of each action; -1 where the robot held still.
      task: Gives the bounds and kinds of actions; entries of unknown kind count as displacements.
    """
    kinds = task.action_kinds or ("displacement",) * task.action_size
    half = (np.asarray(task.action_high) - np.asarray(task.action_low)) / 2
    actions: Float64[np.ndarray, "n a"] = executed.reshape(-1, task.action_size).astype(np.float64) / half
    differences = [
        np.abs(np.diff(actions[:, [kind == which for kind in kinds]], order, axis=0)).ravel()
        for which, order in (("displacement", 2), ("target", 3))
    ]
    moving = actions[:, [kind != "gripper" for kind in kinds]]
    seams = np.flatnonzero(np.diff(np.asarray(chunks, int)))
    return Motion(
        _mean(np.concatenate(differences)), _mean(np.abs(moving[seams + 1] - moving[seams]).ravel())
    )


def _mean(values: Float64[np.ndarray, "_"]) -> float:
    return float(values.mean()) if len(values) else 0.0
