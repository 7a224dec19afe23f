"""Where the processes of a run get simulations and policies from, and what comes back from them."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass

from envs import registry
from envs.interface import Env, RenderSettings
from harness.adapters.interface import Adapter
from harness.adapters.registry import find_adapter
from harness.plan import EpisodeSpec
from harness.policy_catalog import load
from harness.rollout import Played, Reply
from policies.interface import Policy, PolicySpec, Query


def make_env(suite: str, task: str, render: RenderSettings) -> Env:
    """A simulation of a registered task."""
    return registry.suite(suite).make(task, render)


class Recording(abc.ABC):
    """Keeps what one episode's policy was asked and answered."""

    @abc.abstractmethod
    def answered(self, query: Query, reply: Reply) -> None:
        """Called after every query, in their order."""

    @abc.abstractmethod
    def finish(self, played: Played) -> bytes:
        """What comes back with the result of an episode that was played to its end."""


@dataclass(frozen=True)
class Sources:
    """Where simulations and policies come from, and what is kept of their conversation."""

    env: Callable[[str, str, RenderSettings], Env] = make_env
    """Starts a simulation of (suite, task)."""
    policy: Callable[..., Policy] = load
    """Loads a policy by its name in the experiment; told, where it answers in a worker, how (`Serving`)."""
    adapter: Callable[[str, PolicySpec], Adapter] = find_adapter
    """Joins (suite, policy)."""
    recording: Callable[[EpisodeSpec], Recording] | None = None
    """Begins to record an episode; None where nothing but its outcome is wanted."""


REGISTERED = Sources()
"""The suites of `envs.registry` and the policies of `harness.policy_catalog`."""
