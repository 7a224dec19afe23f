"""Where the processes of a run get simulations and policies from, and what comes back from them."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass

from simloop.envs import registry
from simloop.envs.interface import Env, RenderSettings
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.registry import find_adapter
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.policy_names import PolicyLoader
from simloop.harness.rollout.loop import Reply, RolloutResult
from simloop.policies.interface import BatchedPolicy, PolicySpec, Query


def make_env(suite: str, task: str, render: RenderSettings) -> Env:
    """A simulation of a registered task."""
    return registry.suite(suite).make(task, render)


class Recording(abc.ABC):
    """Keeps what one episode's policy was asked and answered."""

    @abc.abstractmethod
    def answered(self, query: Query, reply: Reply) -> None:
        """Called after every query, in their order."""

    @abc.abstractmethod
    def finish(self, played: RolloutResult) -> bytes:
        """What comes back with the result of an episode that was played to its end."""


@dataclass(frozen=True)
class Factories:
    """Where simulations and policies come from, and what is kept of their conversation."""

    env: Callable[[str, str, RenderSettings], Env] = make_env
    """Starts a simulation of (suite, task)."""
    policy: Callable[..., BatchedPolicy] = PolicyLoader()  # noqa: RUF009
    """Loads a policy by its name in the experiment; for a policy that runs in a worker, with an `InferencePlan`."""
    adapter: Callable[[str, PolicySpec], Adapter] = find_adapter
    """Joins (suite, policy)."""
    recording: Callable[[EpisodeSpec], Recording] | None = None
    """Begins to record an episode; None where nothing but its outcome is wanted."""


REGISTERED = Factories()
"""The suites of `simloop.envs.registry` and the policies of `simloop.harness.planning.policy_names`."""
