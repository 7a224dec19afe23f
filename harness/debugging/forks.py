"""Forks of a recorded episode: played by the engine, into a run folder of their own."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simloop.harness.adapters.adapter_file import REGISTERED, AdapterFile
from simloop.harness.adapters.base import AdapterError
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.debugging.episodes import EpisodeError, PlannedEpisode
from simloop.harness.debugging.opening import moments
from simloop.harness.planning.changes import Changes
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.forks import Forks
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.rollout.loop_state import EpisodeState
from simloop.policies.interface import PolicySpec
from simloop.results.records.records import CONFIG, read_episodes

if TYPE_CHECKING:
    from rich.console import Console

    from simloop.harness.engine.resources import Resources
    from simloop.harness.preparation import Record
    from simloop.harness.run import RunResult


@dataclass(frozen=True)
class ForkStarts:
    """Moments of a recorded episode by query, as `Factories.start`. Sent to every env actor."""

    moments: Mapping[int, EpisodeState]

    def __call__(self, spec: EpisodeSpec) -> EpisodeState | None:
        return self.moments[spec.fork.query] if spec.fork else None


def fork_experiment(
    episode: PlannedEpisode, queries: Sequence[int], samples: int, changes: Changes, policy: str | None
) -> Experiment:
    """Describe forks of an episode as an experiment.

    Args:
      queries: Queries before which the episode is left.
      samples: Continuations per query and variant.
      changes: What the changed variant changes.
      policy: Policy of the changed variant; None for that of the episode.

    Raises:
      EpisodeError: If the episode has not finished or does not have one of the queries, or there are no samples.
      ProtocolError: If a change gives rules that no episode can have.
    """
    episode.require_queries(queries, episode.outcome.queries)
    if samples < 1:
        raise EpisodeError(f"--samples must be at least 1; got {samples}.")
    changes.protocol(episode.experiment.protocol)
    forks = Forks(
        episode.name,
        episode.outcome.actions_sha256,
        episode.spec.seed,
        episode.spec.key,
        tuple(sorted(set(queries))),
        samples,
        changes,
    )
    policies = (episode.written_policy,) if policy is None else (episode.written_policy, policy)
    return Experiment(
        name=f"forks of {episode.name}",
        suite=episode.spec.suite,
        tasks=(episode.spec.task,),
        policies=tuple(dict.fromkeys(policies)),
        episodes=samples,
        seed=episode.experiment.seed,
        protocol=episode.experiment.protocol,
        batch_size=episode.batch_size,
        forks=forks,
    )


def play_forks(
    episode: PlannedEpisode,
    experiment: Experiment,
    out: Path,
    resources: Resources,
    console: Console,
    tried: AdapterFile | None = None,
    record: Record = "none",
) -> RunResult:
    """Play the forks that `out` does not hold yet.

    Args:
      tried: The adapter that the changed forks name.
      record: Step records to write.

    Raises:
      AdapterError: If it does not fit the policy of the changed forks.
      EpisodeError: If there are no step records, and the episode played again differs from the ledger.
      UnknownThingError: If a thing to move does not exist.
      Exception: As `simloop.harness.run.run`.
    """
    from simloop.harness.preparation import RunSettings
    from simloop.harness.run import run

    *_, changed = (
        experiment.policy_specs().values()
    )  # Unknown ones are found before an episode is played again.
    if tried is not None:
        _check_adapter(tried, changed, experiment)
    done = {record.key for record in read_episodes(out)} if (out / CONFIG).exists() else set()
    missing = {spec.fork.query for spec in experiment.plan().episodes if spec.fork and spec.id not in done}
    say = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    starts = ForkStarts(moments(episode, sorted(missing), say) if missing else {})
    if missing and experiment.forks:
        _check_moves(episode, experiment.forks.changes, starts.moments[min(missing)])
    settings = RunSettings(
        resources, allow_training_seeds=True, start=starts, tried_adapter=tried, record=record
    )
    return run(experiment, out, settings, console)


def _check_adapter(tried: AdapterFile, policy: PolicySpec, experiment: Experiment) -> None:
    """Raise `AdapterError` unless a policy uses the adapter and fits it."""
    adapter = checked_adapter(policy, experiment.task_specs(), tried)
    if tried != REGISTERED and adapter != tried.load():
        raise AdapterError(
            f"{policy.name} has the robot convention {policy.robot!r} and does not use {tried.name}, which is for "
            f"{tried.load().suite}/{tried.load().robot}. Correct its suite and robot, or leave it out."
        )


def _check_moves(episode: PlannedEpisode, changes: Changes, start: EpisodeState) -> None:
    """Raise `UnknownThingError` if the suite cannot move one of the things."""
    if changes.moves:
        with contextlib.closing(episode.make_env()) as env:
            env.restore(start.env)
            for move in changes.moves:
                env.move(move.thing, move.offset_m)
