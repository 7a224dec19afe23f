"""Plans of forks: many continuations of one recorded episode, as it was and with something changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from simloop.envs.interface import TaskSpec
from simloop.harness.planning.changes import Changes
from simloop.harness.planning.plan import EpisodeSpec, Fork, Plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seeding import derive
from simloop.results.records.fork_labels import fork_label


@dataclass(frozen=True)
class Forks:
    """Continuations of one recorded episode. Sample i has the same noise at every query and in every variant."""

    source: str
    """The recorded episode, as POLICY/TASK/NUMBER."""
    actions_sha256: str
    """Hash of its actions, which identifies what was recorded."""
    seed: int
    """Seed of its initial state."""
    key: int
    """Key of its noise."""
    queries: tuple[int, ...]
    """Queries before which it is left."""
    samples: int
    """Continuations per query and variant. The first has the noise of the recorded episode."""
    changes: Changes = field(default_factory=Changes)


def plan_forks(forks: Forks, policies: Sequence[str], task: TaskSpec, protocol: Protocol) -> Plan:
    """Plan the continuations: with the recorded policy as it was and, if something is changed, with the change.

    Args:
      policies: Name of the recorded policy and, optionally, of another for the changed continuations.
    """
    variants = dict.fromkeys([(policies[0], Changes()), (policies[-1], forks.changes)])
    episodes = tuple(
        EpisodeSpec(
            policy=policy,
            suite=task.suite,
            protocol=fork_label(protocol.label, forks.source, query, str(changes)),
            task=task.name,
            episode=sample,
            seed=forks.seed,
            key=changes.key(sample_key(forks.key, sample)),
            fork=Fork(query, changes),
        )
        for policy, changes in variants
        for query in forks.queries
        for sample in range(forks.samples)
    )
    return Plan(protocol, episodes, {task.name: protocol.max_steps or task.max_steps})


def sample_key(key: int, sample: int) -> int:
    """Key of the noise of a sample; sample 0 has that of the recorded episode."""
    return key if sample == 0 else derive("fork sample", key, sample, bits=64)
