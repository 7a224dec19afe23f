"""Diagnose a run: the ending of every failed episode."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simloop.results.endings import ENDINGS, NO_RECORDS, Ending, Evidence, by_ledger, by_steps, endings_for
from simloop.results.errors import ResultsError
from simloop.results.records.paths import step_records_path
from simloop.results.records.records import EpisodeKey, EpisodeRecord, read_episodes
from simloop.results.records.step_records import StepRecords, StepRecordsError, load_steps

REFERENCES = 3
"""Recorded successes per task, of any policy, with which the rules are compared."""


@dataclass(frozen=True)
class Failure:
    """A failed episode, or one that an invalid action broke."""

    record: EpisodeRecord
    name: str
    """The episode as commands take it."""
    ending: str
    step: int | None = None
    """Step at which the ending happened."""
    query: int | None = None
    """The query whose chunk held that step."""


@dataclass(frozen=True)
class Diagnosis:
    """The chosen episodes of a run, and why those that failed did."""

    run: Path
    episodes: tuple[EpisodeRecord, ...]
    failures: tuple[Failure, ...]
    unreadable: tuple[str, ...]
    """Why step records could not be read, a sentence each."""
    waived: Mapping[str, tuple[str, ...]]
    """By task, the rules that were left out, because a success of the task shows the same."""

    @property
    def errors(self) -> int:
        """Episodes that ended in an error, other than for an invalid action."""
        broken = sum(episode.outcome == "error" for episode in self.episodes)
        return broken - sum(failure.record.outcome == "error" for failure in self.failures)


def diagnose(run: Path, policy: str | None = None, task: str | None = None) -> Diagnosis:
    """Diagnose the finished episodes of a run.

    Args:
      policy: Only those of this policy.
      task: Only those of this task.

    Raises:
      LedgerError: If the folder is no run folder, or its ledger was altered.
      ResultsError: If the run has no such episode.
    """
    everything = read_episodes(run)
    chosen = [
        episode for episode in everything if policy in (None, episode.policy) and task in (None, episode.task)
    ]
    if not chosen:
        have = [", ".join(sorted({getattr(e, name) for e in everything})) for name in ("policy", "task")]
        raise ResultsError(
            f"{run} has no finished episode of these. It has policies: {have[0] or 'none'}; tasks: {have[1] or 'none'}."
        )
    names = command_names(everything)
    reader = EndingReader(run, everything)
    failures = [
        reader.failure(episode, names[episode.key])
        for episode in chosen
        if episode.outcome == "failure" or by_ledger(episode)
    ]
    return Diagnosis(
        run, tuple(chosen), tuple(failures), tuple(dict.fromkeys(reader.unreadable)), reader.waived
    )


class EndingReader:
    """Name how episodes of a run failed; step records are read one at a time, and the rules of a task once.

    Args:
      episodes: All finished episodes of the run, whose successes the rules are compared with.
    """

    def __init__(self, run: Path, episodes: Iterable[EpisodeRecord]):
        self._run = run
        self._successes: defaultdict[tuple[str, str], list[EpisodeRecord]] = defaultdict(list)
        for episode in episodes:
            if episode.outcome == "success":
                self._successes[episode.suite, episode.task].append(episode)
        self._endings: dict[tuple[str, str], tuple[Ending, ...]] = {}
        self.unreadable: list[str] = []
        """Why step records could not be read, a sentence each."""

    @property
    def waived(self) -> dict[str, tuple[str, ...]]:
        """By task, the rules that were left out so far."""
        left_out = {
            task: tuple(ending.name for ending in ENDINGS if ending not in endings)
            for (_, task), endings in self._endings.items()
        }
        return {task: names for task, names in left_out.items() if names}

    def failure(self, record: EpisodeRecord, name: str) -> Failure:
        """How a failed episode, of this name, ended."""
        ending, records = by_ledger(record), self._read(record)
        if ending or records is None:
            return Failure(record, name, ending or NO_RECORDS)
        ending, step = by_steps(Evidence(records), self._endings_of(record.suite, record.task))
        query = next((q.query for q in records.queries if any(s.step == step for s in q.steps)), None)
        return Failure(record, name, ending, step, query)

    def _endings_of(self, suite: str, task: str) -> tuple[Ending, ...]:
        if (suite, task) not in self._endings:
            successes = itertools.islice(self._read_successes(suite, task), REFERENCES)
            self._endings[suite, task] = endings_for(map(Evidence, successes))
        return self._endings[suite, task]

    def _read_successes(self, suite: str, task: str) -> Iterator[StepRecords]:
        for success in self._successes[suite, task]:
            if records := self._read(success):
                yield records

    def _read(self, record: EpisodeRecord) -> StepRecords | None:
        if not (self._run / step_records_path(record.key)).is_file():
            return None
        try:
            return load_steps(self._run, record.key)
        except StepRecordsError as error:
            self.unreadable.append(str(error))
            return None


def command_names(episodes: Sequence[EpisodeRecord]) -> dict[EpisodeKey, str]:
    """Names of episodes as commands take them: `POLICY/TASK/NUMBER`, or the full key where that is ambiguous."""
    short = {e.key: f"{e.policy}/{e.task}/{e.episode}" for e in episodes}
    count = Counter(short.values())
    return {key: name if count[name] == 1 else "/".join(map(str, key)) for key, name in short.items()}
