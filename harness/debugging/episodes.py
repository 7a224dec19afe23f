"""Find the episodes of a run folder by the words of its tables."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from simloop.envs import registry
from simloop.envs.env_state import EnvState
from simloop.envs.interface import Env
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.errors import SimloopError
from simloop.harness.machine import CPU_BATCH_SIZE
from simloop.harness.planning.code_of_runs import policy_here, use_own_suite_of
from simloop.harness.planning.experiment import Experiment, experiment_from_json
from simloop.harness.planning.plan import EpisodeSpec, Plan
from simloop.harness.planning.policy_names import load_policy, parse
from simloop.policies.interface import BatchedPolicy, PolicySpec
from simloop.results.records.records import (
    CONFIG,
    PROVENANCE,
    EpisodeKey,
    EpisodeRecord,
    load_json,
    read_episodes,
)
from simloop.results.records.step_records import RecordedQuery

_load_policy = functools.lru_cache(maxsize=1)(load_policy)
"""Episodes that are replayed in turn have one policy, as a rule."""


class EpisodeError(SimloopError):
    """Raised for an episode that a run does not have, or that cannot be played."""


@dataclass(frozen=True)
class PlannedEpisode:
    """An episode of a run, finished or not, with everything that it is played with."""

    run: Path
    experiment: Experiment
    plan: Plan
    spec: EpisodeSpec
    record: EpisodeRecord | None
    """Its row of the ledger; None if it has not finished."""

    @property
    def outcome(self) -> EpisodeRecord:
        """Its row of the ledger.

        Raises:
          EpisodeError: If it has not finished, or ended in an error.
        """
        if self.record is None:
            raise EpisodeError(
                f"{self.name} of {self.run} has not finished. Choose another episode, or resume the run."
            )
        if self.record.outcome == "error":
            raise EpisodeError(
                f"{self.name} of {self.run} ended in an error: {self.record.error}. Choose another episode."
            )
        return self.record

    @property
    def name(self) -> str:
        """`POLICY/TASK/NUMBER`, by which commands name the episode."""
        return short_name(self.spec.id)

    def require_queries(self, queries: Iterable[int], count: int) -> None:
        """Raise `EpisodeError` unless all these queries are among the first `count`, which the episode has."""
        if beyond := [query for query in queries if not 0 <= query < count]:
            raise EpisodeError(
                f"{self.name} of {self.run} has queries 0 to {count - 1}; got {beyond[0]}. Choose one of these."
            )

    def require_usable(self, state: EnvState) -> None:
        """Raise `StateError` unless an environment of this episode restores the state on this machine."""
        state.require(self.spec.suite, self.spec.task, registry.suite(self.spec.suite).source)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Content of `provenance.json`."""
        return load_json(self.run, PROVENANCE)

    @cached_property
    def policy_spec(self) -> PolicySpec:
        """Interface of the policy, for which the folder of its weights need not exist.

        Raises:
          UnknownPolicyError: If the policy does not exist on this machine.
        """
        _, at, folder = self.written_policy.partition("@")
        return parse(self.written_policy, Path(folder) if at else None).spec()

    @cached_property
    def written_policy(self) -> str:
        """The policy as on the command line.

        Raises:
          SpecificationError: If it is code or a server that `vouch_for` was not given.
        """
        names, written = self.experiment.policy_names, self.experiment.policies
        played = dict(zip(names, written, strict=True))[self.spec.policy]
        recorded = self.provenance.get("policies", {}).get(self.spec.policy, {}).get("fingerprint", {})
        return policy_here(played, recorded, str(self.run))

    @cached_property
    def adapter(self) -> Adapter:
        """What connects suite and policy."""
        return checked_adapter(
            self.policy_spec, list(registry.resolve_tasks(self.spec.suite, [self.spec.task]))
        )

    @property
    def batch_size(self) -> int:
        """Rows of every call of a policy of the run; with `--throughput`, those of the experiment."""
        starts = self.provenance.get("starts") or [{}]
        recorded = starts[-1].get("buckets", [])
        return int(recorded[0]) if len(recorded) == 1 else self.experiment.batch_size or CPU_BATCH_SIZE

    def rows(self, query: RecordedQuery) -> int:
        """Rows of the call of the policy that answered a recorded query."""
        return query.latency.bucket if query.latency else self.batch_size

    def load_policy(self) -> BatchedPolicy:
        """Load the policy with its weights.

        Raises:
          UnknownPolicyError: If the policy or its checkpoint does not exist on this machine.
        """
        return _load_policy(self.written_policy)

    def make_env(self) -> Env:
        """Start a simulation of the task.

        Raises:
          SuiteNotInstalledError: If the packages of the suite are missing.
        """
        use_own_suite_of(self.experiment.protocol, str(self.run))
        suite = registry.suite(self.spec.suite)
        suite.require_installed()
        return suite.make(self.spec.task, self.experiment.protocol.render)


def find_episode(run: Path, name: str) -> PlannedEpisode:
    """Find an episode of a run.

    Args:
      name: `POLICY/TASK/NUMBER`, or `POLICY/SUITE/PROTOCOL/TASK/NUMBER` as in queries and tables.

    Raises:
      LedgerError, ExperimentError: If the folder is no run folder, or its records cannot be read.
      EpisodeError: If the run has no such episode (the text lists similar names), or is one of forks.
    """
    config = load_json(run, CONFIG)
    if not config:
        raise EpisodeError(
            f"{run} has no {CONFIG}, which names its tasks and policies. Restore it from a copy."
        )
    experiment = experiment_from_json(json.dumps(config.get("experiment")), str(run / CONFIG))
    use_own_suite_of(experiment.protocol, str(run))
    if experiment.forks is not None:
        source = experiment.forks.source
        raise EpisodeError(
            f"{run} holds forks, which begin at queries of {source}. Open that episode in the run folder that recorded "
            "it, such as simloop debug --from RUN EPISODE --at QUERY."
        )
    plan = experiment.plan()
    specs = {spec.id: spec for spec in plan.episodes}
    key = _matching(name, specs, run)
    records = {record.key: record for record in read_episodes(run)}
    return PlannedEpisode(run, experiment, plan, specs[key], records.get(key))


def short_name(key: EpisodeKey) -> str:
    """Return `POLICY/TASK/NUMBER`."""
    policy, _, _, task, episode = key
    return f"{policy}/{task}/{episode}"


def _matching(name: str, keys: Iterable[EpisodeKey], run: Path) -> EpisodeKey:
    by_name: dict[str, list[EpisodeKey]] = {}
    for key in keys:
        by_name.setdefault(short_name(key), []).append(key)
        by_name.setdefault("/".join(map(str, key)), []).append(key)
    found = by_name.get(name, [])
    if len(found) == 1:
        return found[0]
    if found:
        full = ", ".join("/".join(map(str, key)) for key in found)
        raise EpisodeError(f"{run} has {len(found)} episodes {name!r}; name one of {full}.")
    short = [known for known in by_name if known.count("/") == 2]
    close = difflib.get_close_matches(name, short, n=3, cutoff=0.5) or short[:3]
    raise EpisodeError(
        f"{run} has no episode {name!r}; POLICY/TASK/NUMBER names one, such as {', '.join(close)}."
    )
