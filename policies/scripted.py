"""Policies without weights: an expert as upper bound, random and zero actions as lower bounds.

Axis letter: a action size.
"""

from __future__ import annotations

import abc
import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from simloop.policies.interface import Chunk, PolicySpec, Query, QueryError

METAWORLD_OBSERVATION = 39
"""Numbers that the experts of Meta-World read."""


class ScriptedPolicy(abc.ABC):
    """`Policy` that computes one action per query in the env actor."""

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

    def infer(self, queries: Sequence[Query]) -> list[Chunk]:
        """Return a chunk of one action per query."""
        return [Chunk(self.act(query)[None]) for query in queries]

    @abc.abstractmethod
    def act(self, query: Query) -> Float32[np.ndarray, "a"]:
        """Compute the next action.

        Raises:
          QueryError: If the query lacks an input that this policy needs.
        """

    def _bounds(self, query: Query) -> tuple[Float64[np.ndarray, "a"], Float64[np.ndarray, "a"]]:
        if query.action_low is None or query.action_high is None:
            raise QueryError(
                f"Policy {self.spec.name!r} needs the bounds of the task's actions; the query for task "
                f"{query.task!r} has none. Fill action_low and action_high from the task's spec."
            )
        return query.action_low, query.action_high


class ExpertPolicy(ScriptedPolicy):
    """The expert of a suite, which reads the state of the simulator.

    Served suites bring their own: their simulator state begins with its next action. For Meta-World it is that of the
    scripted expert of each task. Its experts return actions outside the task's bounds and rely on the simulator to
    saturate them; here they are clipped. They solve 97 to 99 % of MT50.
    """

    def __init__(self) -> None:
        super().__init__("expert", robot="metaworld", uses_privileged=True)

    def act(self, query: Query) -> Float32[np.ndarray, "a"]:
        low, high = self._bounds(query)
        if query.privileged is None:
            raise QueryError(
                f"Policy 'expert' reads the state of the simulator; the query for task {query.task!r} has "
                "none. Fill privileged from the environment."
            )
        if query.privileged.size == METAWORLD_OBSERVATION:
            action = _metaworld_expert(query.task).get_action(query.privileged)
        else:
            action = query.privileged[: low.size]
        return np.clip(action, low, high).astype(np.float32)


@functools.cache
def _metaworld_expert(task: str) -> Any:
    """Return Meta-World's expert of a task. It is stateless, so that one serves all episodes."""
    from metaworld.policies import ENV_POLICY_MAP  # Imports MuJoCo and all fifty tasks.

    if task not in ENV_POLICY_MAP:
        raise QueryError(
            f"Policy 'expert' has experts for the tasks of Meta-World, such as 'reach-v3'; got {task!r}. "
            "Run another policy on this task."
        )
    warnings.filterwarnings("ignore", "Constant.s. may be too high", module=r"metaworld\.policies")
    return ENV_POLICY_MAP[task]()


class RandomPolicy(ScriptedPolicy):
    """Actions drawn uniformly within the task's bounds, each from the key of its query."""

    def __init__(self) -> None:
        super().__init__("random")

    def act(self, query: Query) -> Float32[np.ndarray, "a"]:
        low, high = self._bounds(query)
        generator = np.random.Generator(np.random.PCG64(query.key))
        return generator.uniform(low, high).astype(np.float32)


class HoldPolicy(ScriptedPolicy):
    """The zero action, which holds a robot still if actions are displacements."""

    def __init__(self) -> None:
        super().__init__("hold")

    def act(self, query: Query) -> Float32[np.ndarray, "a"]:
        low, _ = self._bounds(query)
        return np.zeros(low.shape, np.float32)


_POLICIES: dict[str, type[ScriptedPolicy]] = {
    "expert": ExpertPolicy,
    "random": RandomPolicy,
    "hold": HoldPolicy,
}

SCRIPTED = tuple(_POLICIES)
"""Names of the scripted policies."""


def scripted_policy(name: str) -> ScriptedPolicy:
    """Return the scripted policy of that name.

    Raises:
      ValueError: If there is none.
    """
    if name not in _POLICIES:
        raise ValueError(f"Scripted policies are {', '.join(SCRIPTED)}; got {name!r}.")
    return _POLICIES[name]()  # type: ignore[call-arg]
