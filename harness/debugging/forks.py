"""Forks of a recorded episode: played by the engine, into a run folder of their own."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simloop.harness.debugging.recorded import RecordedEpisode, RecordedEpisodeError, open_episode
from simloop.harness.planning.changes import Changes
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.forks import Forks
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.rollout.loop_state import EpisodeState

if TYPE_CHECKING:
    from rich.console import Console

    from simloop.harness.engine.resources import Resources
    from simloop.harness.run import RunResult


@dataclass(frozen=True)
class ForkStarts:
    """Moments of a recorded episode by query, as `Factories.start`. Sent to every env actor."""

    moments: Mapping[int, EpisodeState]

    def __call__(self, spec: EpisodeSpec) -> EpisodeState | None:
        return self.moments[spec.fork.query] if spec.fork else None


def fork_experiment(
    episode: RecordedEpisode, queries: Sequence[int], samples: int, changes: Changes, policy: str | None
) -> Experiment:
    """Describe forks of an episode as an experiment.

    Args:
      queries: Queries before which the episode is left.
      samples: Continuations per query and variant.
      changes: What the changed variant changes.
      policy: Policy of the changed variant; None for that of the episode.

    Raises:
      RecordedEpisodeError: If the episode does not have one of the queries.
    """
    count = episode.record.queries
    if beyond := [query for query in queries if not 0 <= query < count]:
        raise RecordedEpisodeError(
            f"{episode.name} of {episode.run} has queries 0 to {count - 1}; got {beyond[0]}. Choose one of these, "
            "or --at all."
        )
    forks = Forks(
        episode.name,
        episode.record.actions_sha256,
        episode.spec.seed,
        episode.spec.key,
        tuple(queries),
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
        batch_size=episode.experiment.batch_size,
        forks=forks,
    )


def play_forks(
    episode: RecordedEpisode, experiment: Experiment, out: Path, resources: Resources, console: Console
) -> RunResult:
    """Play the forks that `out` does not hold yet.

    Raises:
      RecordedEpisodeError: If the episode cannot be played again as it was recorded.
      Exception: As `simloop.harness.run.run`.
    """
    from simloop.harness.run import RunSettings, run

    assert experiment.forks is not None
    # In a process of its own, because Ray forks this one, which JAX does not allow once it runs.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        starts = ForkStarts(pool.submit(moments, episode, experiment.forks.queries).result())
    settings = RunSettings(resources, allow_training_seeds=True, start=starts)
    return run(experiment, out, settings, console)


def moments(episode: RecordedEpisode, queries: Sequence[int]) -> dict[int, EpisodeState]:
    """Play the episode again in this process, and save it before the queries.

    Raises:
      RecordedEpisodeError: If its actions or its final state differ from the recorded ones.
    """
    found: dict[int, EpisodeState] = {}
    with contextlib.closing(open_episode(episode)) as session:
        for query in sorted(set(queries)):
            found[query] = session.run_until_query(query).snapshot()
        played = session.run_until("end").result
    assert played is not None
    record = episode.record
    if (played.actions_sha256, played.final_state_sha256) != (
        record.actions_sha256,
        record.final_state_sha256,
    ):
        raise RecordedEpisodeError(
            f"{episode.name} of {episode.run} was recorded with {record.steps} steps (ended by {record.ended_by}); "
            f"played again it takes {played.steps} (ended by {played.ended_by}) with other actions, so its moments "
            "are not known. simloop replay shows where they part; use the machine and versions of the run."
        )
    return found
