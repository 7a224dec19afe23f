"""Open episodes of run folders."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from simloop.envs.registry import resolve_tasks
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.debugging.lazy_policy import LazyPolicy
from simloop.harness.debugging.session import Session
from simloop.harness.errors import SimloopError
from simloop.harness.planning.experiment import Experiment, experiment_from_json
from simloop.harness.planning.plan import EpisodeSpec
from simloop.results.records.records import CONFIG, EpisodeRecord, load_json, read_episodes


class RecordedEpisodeError(SimloopError):
    """Raised for an episode that a run folder does not hold, or that cannot be played again."""


@dataclass(frozen=True)
class RecordedEpisode:
    """A finished episode of a run."""

    run: Path
    experiment: Experiment
    spec: EpisodeSpec
    record: EpisodeRecord

    @property
    def name(self) -> str:
        """`POLICY/TASK/NUMBER`, by which commands name the episode."""
        return episode_name(self.record)

    @property
    def written_policy(self) -> str:
        """The policy as on the command line of the run."""
        return dict(zip(self.experiment.policy_names, self.experiment.policies, strict=True))[
            self.spec.policy
        ]


def episode_name(record: EpisodeRecord) -> str:
    """Return `POLICY/TASK/NUMBER`."""
    return f"{record.policy}/{record.task}/{record.episode}"


def find_episode(run: Path, name: str) -> RecordedEpisode:
    """Find an episode of a run by `POLICY/TASK/NUMBER`.

    Raises:
      LedgerError, ExperimentError: If the folder is no run folder, or holds records that cannot be read.
      RecordedEpisodeError: If it does not hold the episode, or the episode ended in an error.
    """
    records = {episode_name(record): record for record in read_episodes(run)}
    if name not in records:
        some = ", ".join(list(records)[:3]) or "none"
        raise RecordedEpisodeError(
            f"{run} holds {len(records)} episodes, such as {some}; got {name!r}. Name one as POLICY/TASK/NUMBER."
        )
    record = records[name]
    if record.outcome == "error":
        raise RecordedEpisodeError(
            f"{name} of {run} ended in an error: {record.error}. Choose another episode."
        )
    config = load_json(run, CONFIG)
    experiment = experiment_from_json(json.dumps(config.get("experiment")), str(run / CONFIG))
    spec = next(spec for spec in experiment.plan().episodes if spec.id == record.key)
    return RecordedEpisode(run, experiment, spec, record)


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
    lazy = LazyPolicy(policy or episode.written_policy, episode.experiment.batch_size)
    spec = dataclasses.replace(episode.spec, policy=lazy.spec.name)
    adapter = checked_adapter(lazy.spec, list(resolve_tasks(spec.suite, [spec.task])))
    return Session.of(spec, episode.experiment.protocol, lazy, adapter)
