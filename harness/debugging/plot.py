"""Figure of a session's steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from simloop.harness.debugging.picture import Picture
from simloop.harness.errors import SimloopError

if TYPE_CHECKING:
    from simloop.envs.interface import TaskSpec
    from simloop.harness.debugging.history import Step


def plot_steps(task: TaskSpec, history: Sequence[Step], steps: int) -> Picture:
    """Plot actions, states and rewards over control steps.

    Args:
      history: The latest steps.
      steps: Control steps executed so far.

    Raises:
      SimloopError: If no step has been executed.
    """
    if not history:
        raise SimloopError("Nothing to plot: no step has been executed since the last reset or restore.")
    over = np.arange(steps - len(history), steps)
    figure = Figure(figsize=(7, 6), layout="constrained")
    panels = {
        "action": (np.array([step.executed for step in history]), task.action_names),
        "state": (np.array([step.state for step in history]), task.state_names),
        "reward": (np.array([[step.reward] for step in history]), ("reward",)),
    }
    for axes, (label, (values, names)) in zip(figure.subplots(3, sharex=True), panels.items(), strict=True):
        for column, name in zip(values.T, names, strict=True):
            axes.plot(over, column, label=name)
        axes.set_ylabel(label)
        if len(names) > 1:
            axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_xlabel("control step")
    return Picture.of(figure)
