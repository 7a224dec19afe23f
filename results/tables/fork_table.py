"""Success of forks: by query and variant, paired with the unchanged continuation, and where most of it is lost."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from simloop.results.errors import ResultsError
from simloop.results.records.fork_labels import parse_fork_label
from simloop.results.statistics.intervals import Interval, wilson
from simloop.results.statistics.paired import Pairs, mcnemar_exact, tango
from simloop.results.tables.grid import NONE, Cell, Grid, percent_cell


@dataclass(frozen=True)
class ForkPoint:
    """All continuations of one variant from one query."""

    source: str
    """The recorded episode, as POLICY/TASK/NUMBER."""
    query: int
    policy: str
    changes: str
    """Empty for a continuation with nothing changed."""
    outcomes: dict[int, bool]
    """Success by sample; errors are left out."""

    @property
    def variant(self) -> str:
        """What distinguishes the continuations from the recorded episode."""
        other = self.policy if self.policy != self.source.split("/")[0] else ""
        return ", ".join(filter(None, (other, self.changes))) or "original"

    @property
    def successes(self) -> int:
        """Number of continuations that succeeded."""
        return sum(self.outcomes.values())

    @property
    def rate(self) -> float:
        """Share of successes, in [0, 1]."""
        return self.successes / len(self.outcomes)

    @property
    def interval(self) -> Interval:
        """95 % Wilson interval of the rate."""
        return wilson(self.successes, len(self.outcomes))


def fork_points(episodes: pd.DataFrame) -> list[ForkPoint]:
    """Group the forks among episodes by query and variant, the original first at each query.

    Args:
      episodes: As from `simloop.results.records.frames.load`.

    Raises:
      ResultsError: If there are no forks among them.
    """
    points = []
    played = episodes[episodes["outcome"] != "error"]
    for (protocol, policy), group in played.groupby(["protocol", "policy"], sort=True):
        if (label := parse_fork_label(str(protocol))) is not None:
            outcomes = dict(zip(group["episode"].astype(int), group["outcome"] == "success", strict=True))
            points.append(ForkPoint(label.source, label.query, str(policy), label.changes, outcomes))
    if not points:
        raise ResultsError("None of these episodes is a fork; simloop fork plays some.")
    return sorted(
        points, key=lambda point: (point.source, point.query, point.variant != "original", point.variant)
    )


def fork_grids(points: Sequence[ForkPoint]) -> list[Grid]:
    """A grid per recorded episode: a row per query and variant."""
    grids = []
    for source, group in itertools.groupby(points, key=lambda point: point.source):
        own = list(group)
        originals = {point.query: point for point in own if point.variant == "original"}
        rows = [
            (
                str(point.query),
                point.variant,
                percent_cell(point.rate, point.interval, f"{point.successes}/{len(point.outcomes)}"),
                *_against(point, originals.get(point.query)),
            )
            for point in own
        ]
        notes = [
            "In brackets the 95 % Wilson interval; of differences, that of Tango. Sample i has the same noise in all "
            "rows of a query. P-values are of McNemar's exact test and not adjusted."
        ]
        if sentence := largest_loss([originals[query] for query in sorted(originals)]):
            notes.insert(0, sentence)
        grids.append(
            Grid(
                f"Success in % after a fork of {source}",
                ("query", "variant", "success", "less original", "p"),
                (tuple(rows),),
                tuple(notes),
                labels=2,
            )
        )
    return grids


def steepest(originals: Sequence[ForkPoint]) -> tuple[ForkPoint, ForkPoint]:
    """The neighbouring queries, of two or more, between which the rate falls most."""
    return min(itertools.pairwise(originals), key=lambda pair: pair[1].rate - pair[0].rate)


def largest_loss(originals: Sequence[ForkPoint]) -> str:
    """State between which two queries most of the success is lost; empty with fewer than two queries.

    Args:
      originals: Unchanged continuations of one episode, in the order of the queries.
    """
    if len(originals) < 2:
        return ""
    before, after = steepest(originals)
    if after.rate >= before.rate:
        return "No query loses success."
    first, then = (f"{100 * point.rate:.1f} %" for point in (before, after))
    sentence = (
        f"Most is lost between queries {before.query} and {after.query}: from query {before.query} on the policy "
        f"succeeds in {first} of its continuations, from query {after.query} on in {then}."
    )
    if before.interval.low <= after.interval.high:
        sentence += " The intervals of the two overlap: more samples may move the place."
    return sentence


def _against(point: ForkPoint, original: ForkPoint | None) -> tuple[Cell | str, str]:
    """Difference to the unchanged continuations with equal noise, and its p-value."""
    if original is None or point is original:
        return NONE, NONE
    shared = point.outcomes.keys() & original.outcomes.keys()
    if not shared:
        return NONE, NONE
    counts = Counter((point.outcomes[sample], original.outcomes[sample]) for sample in shared)
    pairs = Pairs(counts[True, True], counts[True, False], counts[False, True], counts[False, False])
    return percent_cell(pairs.difference, tango(pairs), signed=True), f"{mcnemar_exact(pairs):.3g}"
