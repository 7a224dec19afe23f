"""From an experiment to the ordered list of its episodes: pure, and the same for 1 or 100 workers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from envs.interface import TaskSpec
from harness.protocol import Protocol
from harness.seeding import episode_key, episode_seed
from results.records import EpisodeKey


@dataclass(frozen=True)
class EpisodeSpec:
    """One attempt at one task by one policy, fixed before anything runs."""

    policy: str
    suite: str
    protocol: str
    task: str
    episode: int
    seed: int
    """Seed of the initial state."""
    key: int
    """64-bit key from which the policy's noise is derived."""

    @property
    def id(self) -> EpisodeKey:
        """The key under which the episode is counted."""
        return (self.policy, self.suite, self.protocol, self.task, self.episode)


@dataclass(frozen=True)
class Plan:
    """All episodes of a run, policy by policy and task by task."""

    protocol: Protocol
    episodes: tuple[EpisodeSpec, ...]

    @cached_property
    def sha256(self) -> str:
        """Hash of the rules and of every episode in its order."""
        content = [dataclasses.asdict(self.protocol), [dataclasses.asdict(e) for e in self.episodes]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def make_plan(
    policies: Sequence[str], tasks: Sequence[TaskSpec], protocol: Protocol, episodes: int, seed: int
) -> Plan:
    """Every policy on every task, `episodes` times; episode i starts alike for all policies."""
    return Plan(
        protocol,
        tuple(
            EpisodeSpec(
                policy=policy,
                suite=task.suite,
                protocol=protocol.label,
                task=task.name,
                episode=episode,
                seed=episode_seed(seed, task.suite, task.name, episode),
                key=episode_key(seed, task.suite, task.name, episode),
            )
            for policy in policies
            for task in tasks
            for episode in range(episodes)
        ),
    )
