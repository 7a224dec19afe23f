"""`simloop bench forks`: processor time of forks beside that of whole episodes, and their equality to the original.

All are played in one process, without Ray, with loaded policy and simulation. Processor time hardly depends on other
load.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from simloop.envs.interface import Env
from simloop.harness.debugging.episodes import PlannedEpisode, find_episode
from simloop.harness.debugging.forks import ForkStarts, fork_experiment
from simloop.harness.debugging.moments import saved_moments
from simloop.harness.planning.changes import Changes
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.result import RolloutResult


@dataclass(frozen=True)
class ForkCost:
    """Processor time of continuations of one query and of whole episodes with equal noise."""

    name: str
    query: int
    samples: int
    forks_s: float
    """With reading the moment from the step records."""
    episodes_s: float

    def __str__(self) -> str:
        """Both times, and their ratio."""
        return (
            f"CPU seconds of {self.samples} forks of {self.name} at query {self.query}: {self.forks_s:.2f}; of "
            f"{self.samples} episodes from their beginning: {self.episodes_s:.2f}; ratio "
            f"{self.episodes_s / self.forks_s:.1f}"
        )


def fork_cost(run: Path, name: str, query: int, samples: int) -> ForkCost:
    """Measure forks with nothing changed of an episode that has step records.

    Raises:
      EpisodeError, StepRecordsError, StateError: If there is no such episode, query or record.
    """
    episode = find_episode(run, name)
    specs = fork_experiment(episode, [query], samples, Changes(), None).plan().episodes
    with contextlib.closing(episode.make_env()) as env:
        _play(episode, env, specs[0], _starts(episode, [query]))  # Warm-up.
        began = time.process_time()
        starts = _starts(episode, [query])
        for spec in specs:
            _play(episode, env, spec, starts)
        forked = time.process_time()
        for spec in specs:
            _play(episode, env, dataclasses.replace(spec, fork=None), starts)
        return ForkCost(name, query, samples, forked - began, time.process_time() - forked)


def equal_forks(run: Path, name: str) -> tuple[int, int]:
    """Fork an episode with nothing changed at every query; returns how many forks equal it, and their number.

    Raises:
      EpisodeError, StepRecordsError, StateError: If there is no such episode or record.
    """
    episode = find_episode(run, name)
    queries, outcome = range(episode.outcome.queries), episode.outcome
    starts = _starts(episode, queries)
    equal = 0
    with contextlib.closing(episode.make_env()) as env:
        for spec in fork_experiment(episode, queries, 1, Changes(), None).plan().episodes:
            played = _play(episode, env, spec, starts)
            equal += (played.actions_sha256, played.final_state_sha256, played.reward) == (
                outcome.actions_sha256,
                outcome.final_state_sha256,
                outcome.reward,
            )
    return equal, len(queries)


def _starts(episode: PlannedEpisode, queries: Iterable[int]) -> ForkStarts:
    return ForkStarts(saved_moments(episode, queries))


def _play(episode: PlannedEpisode, env: Env, spec: EpisodeSpec, starts: ForkStarts) -> RolloutResult:
    return run_episode(
        env,
        spec,
        episode.load_policy(),
        episode.adapter,
        episode.experiment.protocol,
        batch_size=episode.batch_size,
        start=starts(spec),
    )
