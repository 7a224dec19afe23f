"""Policies without weights: an expert as upper control arm, random and still ones as lower ones.

Axis letters: t actions per chunk, a action size.
"""

from __future__ import annotations

import abc
import functools
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from simloop.policies.interface import (
    Chunk,
    CompilationProgress,
    InferenceResult,
    Policy,
    PolicySpec,
    Query,
    QueryError,
)


class ScriptedPolicy(Policy):
    """Answers each query by itself, in the process of the simulator."""

    def __init__(self, name: str, *, robot: str = "any", uses_privileged: bool = False) -> None:
        self.spec = PolicySpec(
            name=name,
            robot=robot,
            weights="scripted",
            cameras=(),
            image_hw=None,
            state_size=None,
            action_size=None,
            chunk_steps=1,
            runs_in="actor",
            uses_privileged=uses_privileged,
        )

    def prepare(
        self, batch_size: int, on_progress: Callable[[CompilationProgress], None] | None = None
    ) -> float:
        """Nothing to compile."""
        return 0.0

    def infer(self, queries: Sequence[Query], batch_size: int) -> InferenceResult:
        if not 1 <= len(queries) <= batch_size:
            raise ValueError(
                f"A batch of {batch_size} rows holds 1 to {batch_size} queries; got {len(queries)}."
            )
        start = time.perf_counter()
        chunks = [Chunk(self.act(query)[None]) for query in queries]
        return InferenceResult(chunks, host_s=time.perf_counter() - start)

    @abc.abstractmethod
    def act(self, query: Query) -> Float32[np.ndarray, "a"]:
        """The next action.

        Raises:
          QueryError: If the query lacks what this policy looks at.
        """


def _bounds(query: Query, policy: str) -> tuple[np.ndarray, np.ndarray]:
    if query.action_low is None or query.action_high is None:
        raise QueryError(
            f"Policy {policy!r} follows the bounds of the task's actions; the query for task {query.task!r} "
            "has none. Fill action_low and action_high from the task's spec."
        )
    return query.action_low, query.action_high


class ExpertPolicy(ScriptedPolicy):
    """Meta-World's own scripted expert of each task, which looks at the simulator's state.

    Experts ask for larger moves than the task allows and count on the simulator to saturate them; here
    they are clipped. They solve 97 to 99 % of MT50.
    """

    def __init__(self) -> None:
        super().__init__("expert", robot="metaworld", uses_privileged=True)

    def act(self, query: Query) -> Float32[np.ndarray, "a"]:
        low, high = _bounds(query, self.spec.name)
        if query.privileged is None:
            raise QueryError(
                f"Policy 'expert' looks at the simulator's state; the query for task {query.task!r} has "
                "none. Fill privileged from the environment."
            )
        return np.clip(_metaworld_expert(query.task).get_action(query.privileged), low, high).astype(
            np.float32
        )


@functools.cache
def _metaworld_expert(task: str) -> Any:
    """Meta-World's expert of a task. It keeps no state between calls, so that one serves all episodes."""
    from metaworld.policies import ENV_POLICY_MAP  # Imports MuJoCo and all fifty tasks.

    if task not in ENV_POLICY_MAP:
        raise QueryError(
            f"Policy 'expert' knows the tasks of Meta-World by name, such as 'reach-v3'; got {task!r}. "
            "Run another policy on this task."
        )
    warnings.filterwarnings("ignore", "Constant.s. may be too high", module=r"metaworld\.policies")
    return ENV_POLICY_MAP[task]()


class RandomPolicy(ScriptedPolicy):
    """Actions drawn uniformly within the task's bounds, each from the key of its query."""

    def __init__(self) -> None:
        super().__init__("random")

    def act(self, query: Query) -> Float32[np.ndarray, "a"]:
        low, high = _bounds(query, self.spec.name)
        generator = np.random.Generator(np.random.PCG64(query.key))
        return generator.uniform(low, high).astype(np.float32)


class HoldPolicy(ScriptedPolicy):
    """The zero action, which holds a robot still where actions are displacements."""

    def __init__(self) -> None:
        super().__init__("hold")

    def act(self, query: Query) -> Float32[np.ndarray, "a"]:
        low, _ = _bounds(query, self.spec.name)
        return np.zeros(low.shape, np.float32)


_POLICIES: dict[str, Callable[[], Policy]] = {
    "expert": ExpertPolicy,
    "random": RandomPolicy,
    "hold": HoldPolicy,
}

SCRIPTED = tuple(_POLICIES)
"""Names that `scripted_policy` knows."""


def scripted_policy(name: str) -> Policy:
    """The scripted policy of that name.

    Raises:
      ValueError: If there is none.
    """
    if name not in _POLICIES:
        raise ValueError(f"Scripted policies are {', '.join(SCRIPTED)}; got {name!r}.")
    return _POLICIES[name]()
