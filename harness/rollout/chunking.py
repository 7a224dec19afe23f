"""Strategies that decide when to query a policy and which action of its chunks to execute.

    control step       0   1   2   3   4   5   6   7   8   9
    world stands still A0  A1  A2  A3  B0  B1  B2  B3  C0  C1     replan interval 4
    synchronous        A0  A1  A2  A3  -   -   B0  B1  B2  B3     delay 2: the robot holds still
    naive, rtc*        A0  A1  A2  A3  A4  A5  B2  B3  C..        delay 2: B asked at 4, C at 8, executed from 10
    ensemble           every action is a mean over the chunks that predict the step and have arrived

The delay of the first chunk does not count: an episode begins when the first answer is there.

Pure: an executor sees control steps and actions, never an environment or a clock.

Axis letters: t actions of a chunk, a action size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64

from simloop.envs.interface import ActionKind, TaskSpec
from simloop.harness.planning.execution import Ensemble, Execution, ExecutionError
from simloop.policies.interface import PolicySpec


class ScheduledAction(NamedTuple):
    """The action to execute at one control step, with its origin."""

    action: Float32[np.ndarray, "a"]
    chunk_index: int
    """Number of the chunk in the episode, from 0; -1 if the robot holds still, which no chunk asks for."""
    index_in_chunk: int
    """Row of the chunk, from 0; -1 if the robot holds still."""
    age: int = 0
    """Control steps since the observation that the action answers."""


@dataclass(frozen=True, eq=False)
class ScheduledChunk:
    """The actions of one chunk that are to be executed, and the place of the chunk in the episode."""

    actions: Float32[np.ndarray, "t a"] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    index: int = -1
    """Number of the chunk in the episode, from 0; -1 before the first."""
    first_step: int = 0
    """Control step of the first action."""
    asked_step: int = 0
    """Control step before which the policy was queried."""


@runtime_checkable
class ChunkExecutor(Protocol):
    """Schedule the actions of one episode's chunks."""

    chunk: ScheduledChunk
    """The chunk being executed; another executor continues from it."""

    def wants_query(self, step: int) -> bool:
        """Return whether the policy must be queried before control step `step` is executed."""

    def accept(self, actions: Float32[np.ndarray, "t a"], step: int, delay: int = 0) -> None:
        """Take the chunk that answers the query of control step `step`; it can be executed `delay` steps later."""

    def discard(self, step: int) -> None:
        """Drop the actions from control step `step` on, so that the policy is queried before it."""

    def action(self, step: int) -> ScheduledAction | None:
        """Return the action of control step `step`; None if the robot must hold still."""


class RecedingHorizon:
    """Execute the first `replan_steps` actions of each chunk, then query again and hold still until the answer.

    A shorter chunk is executed to its end.
    """

    def __init__(self, replan_steps: int, chunk: ScheduledChunk | None = None):
        self._replan_steps = replan_steps
        self.chunk = chunk or ScheduledChunk()

    def wants_query(self, step: int) -> bool:
        """Return whether the actions of the last chunk are used up."""
        return step - self.chunk.first_step >= len(self.chunk.actions)

    def accept(self, actions: Float32[np.ndarray, "t a"], step: int, delay: int = 0) -> None:
        """Replace the previous chunk."""
        self.chunk = ScheduledChunk(
            actions[: self._replan_steps], self.chunk.index + 1, step + delay * (self.chunk.index >= 0), step
        )

    def discard(self, step: int) -> None:
        """Cut the last chunk off before control step `step`."""
        executed = self.chunk.actions[: max(step - self.chunk.first_step, 0)]
        first_step = min(self.chunk.first_step, step)
        self.chunk = dataclasses.replace(self.chunk, actions=executed, first_step=first_step)

    def action(self, step: int) -> ScheduledAction | None:
        """Return the next row of the last chunk."""
        index = step - self.chunk.first_step
        if index < 0:
            return None
        return ScheduledAction(
            self.chunk.actions[index], self.chunk.index, index, step - self.chunk.asked_step
        )


class Asynchronous:
    """Query every `replan_steps` control steps, and go on with the previous chunk until the answer.

    Row i of a chunk is the action of the i-th control step after its observation, so rows that are overdue when the
    chunk arrives are skipped. One query is under way at a time. Where the previous chunk ends before, the robot holds
    still.
    """

    def __init__(self, replan_steps: int):
        self._replan_steps = replan_steps
        self._arrives = 0
        self._previous = ScheduledChunk()
        self.chunk = ScheduledChunk()

    def wants_query(self, step: int) -> bool:
        """Return whether the replan interval is over, and the last query answered."""
        if self.chunk.index < 0:
            return True
        interval = min(self._replan_steps, len(self.chunk.actions))
        return step - self.chunk.asked_step >= interval and step >= self._arrives

    def accept(self, actions: Float32[np.ndarray, "t a"], step: int, delay: int = 0) -> None:
        """Take a chunk, to be executed from `step + delay` on."""
        self._previous, self._arrives = self.chunk, step + delay * (self.chunk.index >= 0)
        self.chunk = ScheduledChunk(actions, self.chunk.index + 1, step, step)

    def discard(self, step: int) -> None:
        """Refuse: a chunk under way cannot be dropped in the middle."""
        raise ExecutionError(
            "Actions of a chunk can be dropped only where the world stands still during a query."
        )

    def action(self, step: int) -> ScheduledAction | None:
        """Return the row of the step in the newest chunk that has arrived."""
        chunk = self.chunk if step >= self._arrives else self._previous
        index = step - chunk.first_step
        if index >= len(chunk.actions):
            return None
        return ScheduledAction(chunk.actions[index], chunk.index, index, index)


class TemporalEnsemble:
    """Query every `replan_steps` control steps, and average all chunks that predict a step and have arrived.

    The age of an action is that of the newest of these chunks, which also names its origin.
    """

    def __init__(self, replan_steps: int, ensemble: Ensemble, kinds: Sequence[ActionKind]):
        self._replan_steps = replan_steps
        self._ensemble = ensemble
        self._gripper = np.array([kind == "gripper" for kind in kinds])
        self._chunks: list[tuple[int, ScheduledChunk]] = []
        self.chunk = ScheduledChunk()

    def wants_query(self, step: int) -> bool:
        """Return whether the replan interval is over."""
        return self.chunk.index < 0 or step - self.chunk.asked_step >= self._replan_steps

    def accept(self, actions: Float32[np.ndarray, "t a"], step: int, delay: int = 0) -> None:
        """Take a chunk, which counts from `step + delay` on."""
        arrives = step + delay * (self.chunk.index >= 0)
        self.chunk = ScheduledChunk(actions, self.chunk.index + 1, step, step)
        self._chunks = [(at, old) for at, old in self._chunks if old.first_step + len(old.actions) > step]
        self._chunks.append((arrives, self.chunk))

    def discard(self, step: int) -> None:
        """Refuse: the next action depends on several chunks."""
        raise ExecutionError(
            "Actions of a chunk can be dropped only where the world stands still during a query."
        )

    def action(self, step: int) -> ScheduledAction | None:
        """Return the mean of the rows of the step."""
        chunks = [
            chunk
            for arrives, chunk in self._chunks
            if arrives <= step < chunk.first_step + len(chunk.actions)
        ]
        if not chunks:
            return None
        rows = np.stack([chunk.actions[step - chunk.first_step] for chunk in chunks]).astype(np.float64)
        newest = chunks[-1]
        action = averaged(rows, ensemble_weights(len(rows), self._ensemble), self._gripper)
        age = step - newest.first_step
        return ScheduledAction(action.astype(np.float32), newest.index, age, age)


def ensemble_weights(chunks: int, ensemble: Ensemble) -> Float64[np.ndarray, "{chunks}"]:
    """Return the weights of chunks that predict the same step, oldest first; they sum to 1."""
    oldest_first = np.arange(chunks)
    newest_first = oldest_first[::-1]
    match ensemble.kind:
        case "act":
            weights = np.exp(-ensemble.coefficient * oldest_first)
        case "average":
            weights = np.ones(chunks)
        case "newest":
            weights = (newest_first == 0).astype(np.float64)
        case "exponential":
            weights = ensemble.coefficient * (1 - ensemble.coefficient) ** newest_first
            weights[0] = (1 - ensemble.coefficient) ** (chunks - 1)
    normalized: np.ndarray = weights / weights.sum()
    return normalized


def averaged(
    rows: Float64[np.ndarray, "t a"], weights: Float64[np.ndarray, " t"], gripper: Bool[np.ndarray, "a"]
) -> Float64[np.ndarray, "a"]:
    """Average actions: means of displacements and targets, weighted medians of grippers, which are open or closed."""
    mean: np.ndarray = weights @ rows
    order = np.argsort(rows, axis=0, kind="stable")
    reached = np.cumsum(weights[order], axis=0)
    median_row = np.take_along_axis(order, np.argmax(reached >= 0.5 - 1e-9, axis=0)[None], axis=0)
    median = np.take_along_axis(rows, median_row, axis=0)[0]
    mean[gripper] = median[gripper]
    return mean


def make_executor(
    execution: Execution, replan_steps: int, task: TaskSpec, chunk: ScheduledChunk | None = None
) -> ChunkExecutor:
    """Return the executor of an execution.

    Args:
      chunk: The chunk that an episode continues with, where it continues a saved one.

    Raises:
      ExecutionError: If the task does not tell what its actions are, or the episode cannot be continued.
    """
    if execution.mode == "synchronous":
        return RecedingHorizon(replan_steps, chunk)
    if chunk is not None and chunk.index >= 0:
        raise ExecutionError(
            f"An episode under {execution} cannot be continued from a saved moment, which lacks the chunks under way. "
            "Play it from its beginning: simloop play."
        )
    if execution.ensemble is not None:
        return TemporalEnsemble(replan_steps, execution.ensemble, action_kinds(task))
    return Asynchronous(replan_steps)


def require_executable(execution: Execution, replan_steps: int, policy: PolicySpec, task: TaskSpec) -> None:
    """Raise `ExecutionError` unless a policy can be evaluated on a task under an execution."""
    execution.require_possible(task.control_hz, replan_steps, policy.chunk_steps)
    if execution.may_hold or execution.ensemble or (execution.delay and policy.chunk_steps is None):
        action_kinds(task)
    _require_guidance(execution, policy, task)


def _require_guidance(execution: Execution, policy: PolicySpec, task: TaskSpec) -> None:
    method = execution.guidance
    if method is None:
        return
    if not policy.guidance:
        raise ExecutionError(
            f"{policy.name} cannot be guided, which {execution} needs: only policies that denoise their actions can. "
            "Choose the execution naive."
        )
    if method not in policy.guidance:
        trained = (
            "was not trained to continue given actions" if method == "trained" else "cannot be guided so"
        )
        raise ExecutionError(
            f"{policy.name} {trained}, which {execution} needs. Choose another execution, or train a policy with "
            "simloop train --max-delay."
        )
    longest = execution.delay.longest(task.control_hz)
    if method == "trained" and execution.delay.constant and 0 < policy.max_delay < longest:
        raise ExecutionError(
            f"{execution}: {policy.name} was trained for delays of at most {policy.max_delay} control steps; got "
            f"{longest}. Choose a shorter delay or the execution rtc."
        )


def action_kinds(task: TaskSpec) -> tuple[ActionKind, ...]:
    """What the entries of a task's actions command.

    Raises:
      ExecutionError: If the task does not tell.
    """
    if task.action_kinds is None:
        raise ExecutionError(
            f"{task.suite}/{task.name} does not tell what its actions command, so it is unknown how the robot holds "
            "still and how actions are averaged. Set TaskSpec.action_kinds."
        )
    return task.action_kinds


def hold_action(task: TaskSpec, last: Float32[np.ndarray, "a"] | None) -> Float32[np.ndarray, "a"]:
    """Return the action that holds the robot still: no displacement, and the last target and gripper command.

    Args:
      last: The action executed last; None before the first, when targets are in the middle of their range.
    """
    low, high = np.asarray(task.action_low, np.float32), np.asarray(task.action_high, np.float32)
    still = (low + high) / 2 if last is None else np.array(last, np.float32)
    still[[kind == "displacement" for kind in action_kinds(task)]] = 0
    return np.clip(still, low, high)
