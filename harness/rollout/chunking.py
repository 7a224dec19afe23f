"""Strategies that decide when to query a policy and which action of its chunks to execute.

Pure: an executor sees control steps and actions, never an environment or a clock.

Axis letters: t actions of a chunk, a action size.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
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


@dataclass(frozen=True, eq=False)
class ScheduledChunk:
    """The actions of one chunk that are to be executed, and the place of the chunk in the episode."""

    actions: Float32[np.ndarray, "t a"] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    index: int = -1
    """Number of the chunk in the episode, from 0; -1 before the first."""
    first_step: int = 0
    """Control step of the first action."""


class ChunkExecutor(Protocol):
    """Schedule the actions of one episode's chunks."""

    chunk: ScheduledChunk
    """The chunk being executed; another executor continues from it."""

    def wants_query(self, step: int) -> bool:
        """Return whether the policy must be queried before control step `step` is executed."""

    def accept(self, actions: Float32[np.ndarray, "t a"], step: int) -> None:
        """Take the chunk that answers the query of control step `step`."""

    def discard(self, step: int) -> None:
        """Drop the actions from control step `step` on, so that the policy is queried before it."""

    def action(self, step: int) -> ScheduledAction:
        """Return the action of control step `step`."""


class RecedingHorizon:
    """Execute the first `replan_steps` actions of each chunk, then query again.

    A shorter chunk is executed to its end.
    """

    def __init__(self, replan_steps: int, chunk: ScheduledChunk | None = None):
        self._replan_steps = replan_steps
        self.chunk = chunk or ScheduledChunk()

    def wants_query(self, step: int) -> bool:
        """Return whether the actions of the last chunk are used up."""
        return step - self.chunk.first_step >= len(self.chunk.actions)

    def accept(self, actions: Float32[np.ndarray, "t a"], step: int) -> None:
        """Replace the previous chunk."""
        self.chunk = ScheduledChunk(actions[: self._replan_steps], self.chunk.index + 1, step)

    def discard(self, step: int) -> None:
        """Cut the last chunk off before control step `step`."""
        executed = self.chunk.actions[: step - self.chunk.first_step]
        self.chunk = dataclasses.replace(self.chunk, actions=executed)

    def action(self, step: int) -> ScheduledAction:
        """Return the next row of the last chunk."""
        index = step - self.chunk.first_step
        return ScheduledAction(self.chunk.actions[index], self.chunk.index, index)
