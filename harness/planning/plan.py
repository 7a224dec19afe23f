"""The ordered episodes of an experiment, a pure function of it: equal for any number of processes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from simloop.envs.interface import TaskSpec
from simloop.harness.planning.changes import Changes
from simloop.harness.planning.execution import Execution
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seeding import episode_key, episode_seed, order_in_round
from simloop.policies.interface import GuidanceMethod
from simloop.results.records.records import EpisodeKey


@dataclass(frozen=True)
class Fork:
    """Where an episode leaves a recorded one, and what changes there."""

    query: int
    """The query of the recorded episode that comes next."""
    changes: Changes = field(default_factory=Changes)


@dataclass(frozen=True)
class EpisodeSpec:
    """One episode of one policy on one task, fixed before the run starts."""

    policy: str
    suite: str
    protocol: str
    task: str
    episode: int
    seed: int
    """Seed of the initial state."""
    key: int
    """64-bit key of the policy's noise."""
    fork: Fork | None = None
    """Set if the episode continues a recorded one."""
    execution: Execution | None = None
    """Replaces the execution of the run's protocol, in runs that compare several."""
    prompt_source: str | None = None
    """Replaces the source of the run's instructions, in runs that compare several."""
    perturbations: tuple[Perturbation, ...] | None = None
    """Replaces the perturbations of the run's protocol, in runs that compare several."""

    @property
    def id(self) -> EpisodeKey:
        """Key of the episode in the ledger."""
        return (self.policy, self.suite, self.protocol, self.task, self.episode)

    def protocol_of(self, run: Protocol) -> Protocol:
        """The rules of this episode in a run of that protocol."""
        own = {name: getattr(self, name) for name in ("execution", "prompt_source", "perturbations")}
        return dataclasses.replace(run, **{name: rule for name, rule in own.items() if rule is not None})


@dataclass(frozen=True)
class Plan:
    """All episodes of a run, in the order in which they are scheduled."""

    protocol: Protocol
    episodes: tuple[EpisodeSpec, ...]
    max_steps: Mapping[str, int] = field(default_factory=dict)
    """Step limit by task."""

    @cached_property
    def sha256(self) -> str:
        """Hash of the protocol and of all episodes in order."""
        content = [self.protocol.to_dict(), [_plain(spec) for spec in self.episodes]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def guidance(self) -> tuple[GuidanceMethod | None, ...]:
        """Methods by which queries are guided, None if some are not."""
        executions = (spec.protocol_of(self.protocol).execution for spec in self.episodes)
        return tuple(dict.fromkeys(execution.guidance for execution in executions))

    @property
    def pairs(self) -> tuple[tuple[str, int], ...]:
        """Distinct (task, episode) over all policies, in order of first appearance."""
        return tuple(dict.fromkeys((spec.task, spec.episode) for spec in self.episodes))


def _plain(spec: EpisodeSpec) -> dict[str, Any]:
    """The spec as JSON values; equal to those of versions without the members that are None."""
    return {name: value for name, value in dataclasses.asdict(spec).items() if value is not None}


def make_plan(
    policies: Sequence[str],
    tasks: Sequence[TaskSpec],
    protocol: Protocol,
    episodes: int,
    seed: int,
    *,
    variants: Sequence[Mapping[str, Any]] = (),
    interleaved_pairs: int | None = None,
    limit: int | None = None,
    first: int = 0,
) -> Plan:
    """Plan `episodes` episodes of every policy on every task; episode i has the same initial state for all policies.

    Where a task comes with recorded initial states, episode i starts from state i, as in published evaluations, and
    the seed determines the noise alone.

    Args:
      variants: Rules of the protocol to replace, by name; every episode is played under each of these. One variant
        without rules by default.
      interleaved_pairs: For runs that may stop early. Plan at most this many (task, episode) pairs, each played by
        all policies in turn, in rounds over the tasks with an order drawn from the seed: a run that stops has not
        seen the first tasks alone. By default the order is by policy, then by task.
      limit: Plan only the first episodes of each policy.
      first: Number of the first episode of each task.
    """
    ruled = [(rules, dataclasses.replace(protocol, **rules).label) for rules in variants or ({},)]
    limits = {task.name: protocol.max_steps or task.max_steps for task in tasks}

    def spec(policy: str, task: TaskSpec, episode: int, rules: Mapping[str, Any], label: str) -> EpisodeSpec:
        return EpisodeSpec(
            policy=policy,
            suite=task.suite,
            protocol=label,
            task=task.name,
            episode=episode,
            seed=episode if task.initial_states else episode_seed(seed, task.suite, task.name, episode),
            key=episode_key(seed, task.suite, task.name, episode),
            **rules,
        )

    if interleaved_pairs is None:
        starts = [(task, episode) for task in tasks for episode in range(first, first + episodes)][:limit]
        ordered = (
            spec(policy, task, episode, rules, label)
            for policy in policies
            for rules, label in ruled
            for task, episode in starts
        )
        return Plan(protocol, tuple(ordered), limits)
    pairs = [
        (task, episode)
        for episode in range(first, first + episodes)
        for task in sorted(tasks, key=lambda task: order_in_round(seed, task.suite, task.name, episode))
    ]
    mixed = (
        spec(policy, task, episode, *ruled[0])
        for task, episode in pairs[:interleaved_pairs]
        for policy in policies
    )
    return Plan(protocol, tuple(mixed), limits)
