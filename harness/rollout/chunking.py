"""Strategies that decide when to query a policy and which action of its chunks to execute.

Pure: an executor sees control steps and actions, never an environment or a clock.

Axis letters: t actions of a chunk, a action size.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32


class ScheduledAction(NamedTuple):
    """The action to execute at one control step, with its origin."""

    action: Float32[np.ndarray, "a"]
    chunk_index: int
    """Number of the chunk in the episode, from 0."""
    index_in_chunk: int
    """Row of the chunk, from 0."""


class ChunkExecutor(Protocol):
    """Schedule the actions of one episode's chunks."""

    def wants_query(self, step: int) -> bool:
        """Return whether the policy must be queried before control step `step` is executed."""

    def accept(self, actions: Float32[np.ndarray, "t a"], step: int) -> None:
        """Take the chunk that answers the query of control step `step`."""

    def action(self, step: int) -> ScheduledAction:
        """Return the action of control step `step`."""


class RecedingHorizon:
    """Execute the first `replan_steps` actions of each chunk, then query again.

    A shorter chunk is executed to its end.
    """

    def __init__(self, replan_steps: int):
        self._replan_steps = replan_steps
        self._actions: Float32[np.ndarray, "t a"] = np.zeros((0, 0), np.float32)
        self._chunk_index = -1
        self._first_step = 0

    def wants_query(self, step: int) -> bool:
        """Return whether the actions of the last chunk are used up."""
        return step - self._first_step >= len(self._actions)

    def accept(self, actions: Float32[np.ndarray, "t a"], step: int) -> None:
        """Replace the previous chunk."""
        self._actions = actions[: self._replan_steps]
        self._chunk_index += 1
        self._first_step = step

    def action(self, step: int) -> ScheduledAction:
        """Return the next row of the last chunk."""
        index = step - self._first_step
        return ScheduledAction(self._actions[index], self._chunk_index, index)
