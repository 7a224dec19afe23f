"""Factories of environments, policies, adapters and recorders, sent to the processes of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simloop.envs import registry
from simloop.envs.interface import Env, RenderSettings
from simloop.harness.adapters.adapter_file import AdapterFile
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.registry import find_adapter
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.policy_names import PolicyLoader
from simloop.harness.rollout.loop_state import EpisodeState
from simloop.harness.rollout.observers import Recorder
from simloop.policies.interface import BatchedPolicy, GuidanceMethod, PolicySpec


def make_env(suite: str, task: str, render: RenderSettings) -> Env:
    """Start a simulation of a registered task."""
    return registry.suite(suite).make(task, render)


def no_start(spec: EpisodeSpec) -> None:
    """Play every episode from its beginning."""


@dataclass(frozen=True)
class AdapterFinder:
    """Finds the adapter of an episode and its policy."""

    file: AdapterFile | None = None
    """Adapter file of the run."""
    tried: AdapterFile | None = None
    """Adapter file of forks that try another one."""

    def __call__(self, spec: EpisodeSpec, policy: PolicySpec) -> Adapter:
        """Find the adapter."""
        tries = spec.fork is not None and spec.fork.changes.adapter is not None
        return find_adapter(spec.suite, policy, self.tried if tries else self.file)


@dataclass(frozen=True)
class Factories:
    """What env actors and policy workers make their parts with. Must be picklable."""

    env: Callable[[str, str, RenderSettings], Env] = make_env
    """Starts a simulation of (suite, task)."""
    policy: Callable[..., BatchedPolicy] = PolicyLoader()  # noqa: RUF009
    """Loads a policy by its name in the experiment; policy workers pass an `InferencePlan` as well."""
    adapter: Callable[[EpisodeSpec, PolicySpec], Adapter] = AdapterFinder()
    """Finds the adapter of an episode and its policy."""
    recorder: Callable[[EpisodeSpec], Recorder] | None = None
    """Starts to record an episode; its files come back as `EpisodeResult.attachments`."""
    live_view: Callable[[EpisodeSpec], Recorder] | None = None
    """Starts to show an episode while it is played."""
    guidance: tuple[GuidanceMethod | None, ...] = (None,)
    """Methods by which queries of the run are guided; None if some are not. Policies compile a program for each."""
    start: Callable[[EpisodeSpec], EpisodeState | None] = no_start
    """Returns the saved moment from which an episode continues; None to play it from its beginning."""


REGISTERED = Factories()
"""The suites of `simloop.envs.registry` and the policies of `simloop.harness.planning.policy_names`."""
