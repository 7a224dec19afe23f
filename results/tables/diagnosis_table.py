"""Tables of a diagnosis: tasks by lost episodes, endings of failed episodes, moments at which forks lose success."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from simloop.results.diagnosis import Diagnosis, Failure
from simloop.results.endings import NO_RECORDS, NO_SCENES, OTHER
from simloop.results.errors import ResultsError
from simloop.results.records.frames import load
from simloop.results.records.records import EpisodeRecord, video_of
from simloop.results.statistics.intervals import wilson
from simloop.results.tables.fork_table import ForkPoint, fork_points, steepest
from simloop.results.tables.grid import NONE, Cell, Grid, percent_cell

LAST = (OTHER, NO_SCENES, NO_RECORDS)
"""Rows that stand below the named endings."""


def diagnosis_grids(diagnosis: Diagnosis) -> list[Grid]:
    """Tasks and endings of a diagnosis; endings only if an episode failed."""
    grids = [task_grid(diagnosis)]
    return [*grids, ending_grid(diagnosis)] if diagnosis.failures else grids


def task_grid(diagnosis: Diagnosis) -> Grid:
    """A row per policy and task, in the order of the episodes lost."""
    failures = _grouped(diagnosis.failures)
    completed = Counter(_of(e) for e in diagnosis.episodes if e.outcome != "error")
    successes = Counter(_of(e) for e in diagnosis.episodes if e.outcome == "success")
    lost = Counter(policy for policy, _ in (_of(f.record) for f in diagnosis.failures))
    rows: list[tuple[Cell | str, ...]] = []
    for policy, task in sorted(completed.keys() | failures.keys(), key=lambda k: (-len(failures[k]), k)):
        own, count, played = failures[policy, task], successes[policy, task], completed[policy, task]
        success = (
            percent_cell(count / played, wilson(count, played), f"{count}/{played}") if played else Cell(None)
        )
        share = percent_cell(len(own) / lost[policy], counts=f"{len(own)}/{lost[policy]}") if own else NONE
        rows.append((policy, task, success, share, *_commonest(own)))
    notes = [
        "Lost: share of the policy's failed episodes. Query: median of the queries at which the ending happened."
    ]
    if diagnosis.errors:
        notes.append(f"Left out: {diagnosis.errors} episodes that ended in an error of software or machine.")
    columns = ("policy", "task", "success", "lost", "most frequent ending", "query")
    return Grid("Where success is lost, in %", columns, (tuple(rows),), tuple(notes), labels=2)


def ending_grid(diagnosis: Diagnosis) -> Grid:
    """A row per policy and ending, each with an example."""
    by_policy: defaultdict[str, defaultdict[str, list[Failure]]] = defaultdict(lambda: defaultdict(list))
    for failure in diagnosis.failures:
        by_policy[failure.record.policy][failure.ending].append(failure)
    groups = []
    for policy, endings in by_policy.items():
        total = sum(map(len, endings.values()))
        ordered = sorted(endings, key=lambda name: (name in LAST, -len(endings[name]), name))
        groups.append(
            tuple((policy, *_ending_row(diagnosis.run, name, endings[name], total)) for name in ordered)
        )
    columns = ("policy", "ending", "failed episodes", "query", "example", "video")
    return Grid(
        "How failed episodes end, in %", columns, tuple(groups), tuple(_ending_notes(diagnosis)), labels=2
    )


def moment_grid(run: Path, policy: str | None = None, task: str | None = None) -> Grid | None:
    """The queries between which the forks of each episode lose most, in the order of the loss; None without forks.

    Args:
      run: Run folder, with the runs of `simloop fork` in its folder `forks`.
      policy: Only episodes of this policy.
      task: Only episodes of this task.
    """
    curves, notes = (
        [],
        ["Success of continuations from the first and the second query, with 95 % Wilson intervals."],
    )
    for folder in sorted(path.parent for path in run.glob("forks/*/episodes.jsonl")):
        try:
            curves += [c for c in _curves(fork_points(load(folder))) if _is_of(c[0].source, policy, task)]
        except ResultsError as error:
            notes.append(f"Left out: {folder}. {error}")
    falls = sorted(map(steepest, curves), key=lambda pair: pair[1].rate - pair[0].rate)
    rows = tuple(
        (before.source, f"{before.query}–{after.query}", _rate(before), _rate(after))
        for before, after in falls
        if after.rate < before.rate
    )
    columns = ("episode", "queries", "before", "after")
    if not rows and len(notes) == 1:
        return None
    return Grid("Moments at which success is lost, in %", columns, (rows,), tuple(notes), labels=2)


def _curves(points: Sequence[ForkPoint]) -> Iterator[list[ForkPoint]]:
    """Unchanged continuations of each episode from two queries or more."""
    originals = [point for point in points if point.variant == "original"]
    for _, group in itertools.groupby(originals, key=lambda point: point.source):
        if len(curve := list(group)) > 1:
            yield curve


def _is_of(source: str, policy: str | None, task: str | None) -> bool:
    found_policy, found_task, _ = source.rsplit("/", 2)
    return policy in (None, found_policy) and task in (None, found_task)


def _rate(point: ForkPoint) -> Cell:
    return percent_cell(point.rate, point.interval, f"{point.successes}/{len(point.outcomes)}")


def _ending_row(run: Path, ending: str, failures: Sequence[Failure], total: int) -> tuple[Cell | str, ...]:
    share = percent_cell(len(failures) / total, wilson(len(failures), total), f"{len(failures)}/{total}")
    example = next((f for f in failures if video_of(run, f.record.video)), failures[0])
    video = video_of(run, example.record.video)
    return ending, share, _median_query(failures), example.name, str(video) if video else NONE


def _ending_notes(diagnosis: Diagnosis) -> Iterator[str]:
    endings = Counter(failure.ending for failure in diagnosis.failures)
    yield "In brackets the 95 % Wilson interval. simloop replay, play, fork and debug take the example."
    if not endings[OTHER]:
        yield "No rule missed an episode: other has 0."
    if count := endings[NO_RECORDS]:
        yield (
            f"{count} of {len(diagnosis.failures)} failed episodes have no step records that can be read: simloop run "
            "--record steps writes them, simloop play those of one episode."
        )
    if count := endings[NO_SCENES]:
        yield f"{count} have no poses and contacts: --record steps writes them where the suite knows them."
    for task, names in sorted(diagnosis.waived.items()):
        yield f"Not applied to {task}, whose successes show the same: {', '.join(names)}."
    yield from diagnosis.unreadable


def _commonest(failures: Sequence[Failure]) -> tuple[str, str]:
    """The most frequent ending with its count, and the median query at which it happened."""
    if not failures:
        return NONE, NONE
    (ending, count), *_ = Counter(failure.ending for failure in failures).most_common(1)
    return f"{ending} ({count})", _median_query([f for f in failures if f.ending == ending])


def _median_query(failures: Iterable[Failure]) -> str:
    queries = [failure.query for failure in failures if failure.query is not None]
    return str(statistics.median_low(queries)) if queries else NONE


def _grouped(failures: Iterable[Failure]) -> defaultdict[tuple[str, str], list[Failure]]:
    found: defaultdict[tuple[str, str], list[Failure]] = defaultdict(list)
    for failure in failures:
        found[_of(failure.record)].append(failure)
    return found


def _of(record: EpisodeRecord) -> tuple[str, str]:
    return record.policy, record.task
