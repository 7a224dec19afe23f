"""From an experiment to the ordered list of its episodes: pure, and the same for 1 or 100 workers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from simloop.envs.interface import TaskSpec
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seeding import episode_key, episode_seed, place_in_round
from simloop.results.records.records import EpisodeKey


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
    """All episodes of a run, in the order in which they are asked for."""

    protocol: Protocol
    episodes: tuple[EpisodeSpec, ...]
    max_steps: Mapping[str, int] = field(default_factory=dict)
    """Step limit by task."""

    @cached_property
    def sha256(self) -> str:
        """Hash of the rules and of every episode in its order."""
        content = [dataclasses.asdict(self.protocol), [dataclasses.asdict(e) for e in self.episodes]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def pairs(self) -> tuple[tuple[str, int], ...]:
        """(task, episode) of every episode, whoever plays it, in order of first appearance."""
        return tuple(dict.fromkeys((spec.task, spec.episode) for spec in self.episodes))


def make_plan(
    policies: Sequence[str],
    tasks: Sequence[TaskSpec],
    protocol: Protocol,
    episodes: int,
    seed: int,
    *,
    interleaved_pairs: int | None = None,
    limit: int | None = None,
) -> Plan:
    """Every policy on every task, `episodes` times; episode i starts alike for all policies.

    Policy by policy and task by task; or, for runs that may stop early, at most `interleaved_pairs`
    (task, episode) mixed, each played by all policies in turn: every task once in an order drawn from the
    seed, then every task again, so that a run that stops has not seen the first tasks alone.

    With a limit, only the first episodes of each policy.

    Where a task comes with initial states, episode i starts from state i whatever the seed, as published
    evaluations do; the seed then decides about the noise alone.
    """
    label = protocol.label
    limits = {task.name: protocol.max_steps or task.max_steps for task in tasks}

    def spec(policy: str, task: TaskSpec, episode: int) -> EpisodeSpec:
        return EpisodeSpec(
            policy=policy,
            suite=task.suite,
            protocol=label,
            task=task.name,
            episode=episode,
            seed=episode if task.initial_states else episode_seed(seed, task.suite, task.name, episode),
            key=episode_key(seed, task.suite, task.name, episode),
        )

    if interleaved_pairs is None:
        places = [(task, episode) for task in tasks for episode in range(episodes)][:limit]
        ordered = (spec(policy, task, episode) for policy in policies for task, episode in places)
        return Plan(protocol, tuple(ordered), limits)
    pairs = [
        (task, episode)
        for episode in range(episodes)
        for task in sorted(tasks, key=lambda task: place_in_round(seed, task.suite, task.name, episode))
    ]
    mixed = (
        spec(policy, task, episode) for task, episode in pairs[:interleaved_pairs] for policy in policies
    )
    return Plan(protocol, tuple(mixed), limits)
