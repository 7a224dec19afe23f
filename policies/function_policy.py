"""Policies from functions: one observation in, one action or chunk of actions out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from simloop.policies.interface import Chunk, PolicySpec, Query

Observation = dict[str, Any]
"""`state` (float32 [s]), `instruction`, `task`, `step`, `key` (of the randomness in the answer), `action_low` and
`action_high` (float64 [a]), and the image of each camera (uint8 [h, w, 3]) under its name."""
Function = Callable[..., Any]


class FunctionPolicy:
    """A policy that asks a function about one observation at a time. Calling it calls the function."""

    def __init__(self, function: Function, spec: PolicySpec) -> None:
        self.function = function
        self.spec = spec
        functools.update_wrapper(self, function, updated=())

    def __call__(self, observation: Observation, **arguments: Any) -> Any:
        return self.function(observation, **arguments)

    def bound(self, **arguments: Any) -> FunctionPolicy:
        """The same policy with arguments of the function set."""
        return FunctionPolicy(functools.partial(self.function, **arguments), self.spec) if arguments else self

    def infer(self, queries: Sequence[Query]) -> list[Chunk]:
        """Answer each query by a call of the function, whose action [a] or chunk [t, a] is converted to float32."""
        return [Chunk(np.atleast_2d(np.asarray(self.function(observation(q)), np.float32))) for q in queries]


def observation(query: Query) -> Observation:
    """A query as a dictionary."""
    fields = ("state", "instruction", "task", "step", "key", "action_low", "action_high", "privileged")
    return {name: getattr(query, name) for name in fields} | dict(query.images)


@overload
def policy(function: Function) -> FunctionPolicy: ...
@overload
def policy(
    *,
    cameras: Sequence[str] = (),
    chunk_steps: int = 1,
    action_size: int | None = None,
    state_size: int | None = None,
    robot: str = "any",
    uses_privileged: bool = False,
) -> Callable[[Function], FunctionPolicy]: ...
def policy(
    function: Function | None = None,
    *,
    cameras: Sequence[str] = (),
    chunk_steps: int = 1,
    action_size: int | None = None,
    state_size: int | None = None,
    robot: str = "any",
    uses_privileged: bool = False,
) -> FunctionPolicy | Callable[[Function], FunctionPolicy]:
    """Make a policy of a function from an `Observation` to an action or a chunk of actions.

    >>> @policy(chunk_steps=5)
    ... def lift(observation, speed: float = 1.0):
    ...     return np.tile([0, 0, speed, 0], (5, 1))

    Arguments after the observation can be set on the command line: `my_policy.py:lift?speed=0.5`.

    Args:
      function: The function, where the decorator has no arguments.
      cameras: Cameras whose images the function reads: those of the suite, or of the robot convention.
      chunk_steps: Actions that it returns per call.
      action_size: Length of an action, to be refused on tasks with others; None for any task.
      state_size: Length of the state, likewise.
      robot: Robot convention of cameras, state and actions; `any` for those of the suite.
      uses_privileged: Whether it reads `privileged`, the state of the simulator.
    """
    spec = PolicySpec(
        name="",
        robot=robot,
        cameras=tuple(cameras),
        state_size=state_size,
        action_size=action_size,
        chunk_steps=chunk_steps,
        uses_privileged=uses_privileged,
    )

    def decorate(decorated: Function) -> FunctionPolicy:
        return FunctionPolicy(decorated, dataclasses.replace(spec, name=decorated.__name__))

    return decorate if function is None else decorate(function)
