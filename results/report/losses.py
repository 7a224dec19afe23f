"""Data of the moments at which episodes were lost."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simloop.results.diagnosis import EndingReader, Failure
from simloop.results.records.records import EpisodeRecord
from simloop.results.report.page_data import episode_id, text

EXAMINED = 48
"""Failed episodes of which the step records are read: it takes some hundredths of a second each."""


def losses(
    failed: Sequence[tuple[int, str, EpisodeRecord]], readers: Mapping[int, EndingReader]
) -> dict[str, Any]:
    """How failed episodes ended, and when: some of every policy and task, if there are many.

    Args:
      failed: Failed episodes: index of the run, policy as the page names it, and record.
      readers: By index of the run.
    """
    chosen = list(itertools.islice(_in_turn(failed), EXAMINED))
    found = [
        (_id(policy, record), readers[run].failure(record, record.task)) for run, policy, record in chosen
    ]
    counts = Counter(failure.ending for _, failure in found)
    return {
        "failed": len(failed),
        "examined": len(found),
        "endings": [[text(ending), count] for ending, count in counts.most_common()],
        "moments": [_moment(name, failure) for name, failure in found],
        "notes": [text(note) for reader in readers.values() for note in dict.fromkeys(reader.unreadable)],
    }


def _id(policy: str, record: EpisodeRecord) -> str:
    return episode_id((policy, *record.key[1:]))


def _moment(name: str, failure: Failure) -> dict[str, Any]:
    return {"id": name, "ending": text(failure.ending), "step": failure.step, "query": failure.query}


def _in_turn(
    failed: Sequence[tuple[int, str, EpisodeRecord]],
) -> Iterator[tuple[int, str, EpisodeRecord]]:
    """The first of every policy and task, then the second of each."""
    cells: defaultdict[tuple[str, str], list[tuple[int, str, EpisodeRecord]]] = defaultdict(list)
    for one in failed:
        cells[one[1], one[2].task].append(one)
    for layer in itertools.zip_longest(*cells.values()):
        yield from (one for one in layer if one is not None)
