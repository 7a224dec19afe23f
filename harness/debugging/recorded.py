"""Open episodes of run folders."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from simloop.envs.registry import resolve_tasks
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.debugging.episodes import EpisodeError, PlannedEpisode
from simloop.harness.debugging.episodes import find_episode as find_planned_episode
from simloop.harness.debugging.lazy_policy import LazyPolicy
from simloop.harness.debugging.session import Session
from simloop.results.records.records import EpisodeRecord


class RecordedEpisodeError(EpisodeError):
    """Raised for an episode that has no outcome, or that cannot be played again."""


@dataclass(frozen=True)
class RecordedEpisode(PlannedEpisode):
    """A finished episode of a run."""

    record: EpisodeRecord


def find_episode(run: Path, name: str) -> RecordedEpisode:
    """Find a finished episode of a run by `POLICY/TASK/NUMBER`.

    Raises:
      LedgerError, ExperimentError, EpisodeError: As `simloop.harness.debugging.episodes.find_episode`.
      RecordedEpisodeError: If the episode has not finished, or ended in an error.
    """
    found = find_planned_episode(run, name)
    if found.record is None:
        raise RecordedEpisodeError(
            f"{name} of {run} has not finished. Choose another episode, or resume the run."
        )
    if found.record.outcome == "error":
        raise RecordedEpisodeError(
            f"{name} of {run} ended in an error: {found.record.error}. Choose another episode."
        )
    return RecordedEpisode(found.run, found.experiment, found.plan, found.spec, found.record)


def open_recorded(run: Path, name: str, policy: str | None = None) -> Session:
    """Open an episode of a run at its beginning: same initial state, noise and batch size.

    Args:
      policy: Another policy to play it with.

    Raises:
      RecordedEpisodeError, LedgerError: As `find_episode`.
    """
    return open_episode(find_episode(run, name), policy)


def open_episode(episode: RecordedEpisode, policy: str | None = None) -> Session:
    """Open an episode at its beginning, with its own or another policy."""
    lazy = LazyPolicy(policy or episode.written_policy, episode.batch_size)
    spec = dataclasses.replace(episode.spec, policy=lazy.spec.name)
    adapter = checked_adapter(lazy.spec, list(resolve_tasks(spec.suite, [spec.task])))
    return Session.of(spec, episode.experiment.protocol, lazy, adapter)
