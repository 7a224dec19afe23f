"""Timeouts of phases and batches, learned from the durations measured in the run. Pure.

A hang is told from a slow machine by earlier durations of the same phase: a timeout is a multiple of a high
quantile of the recent ones, and never below its floor. A single outlier therefore never raises it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from simloop.harness.actors.heartbeat import Activity, EnvActorHeartbeat
from simloop.harness.engine.resources import Floors
from simloop.harness.rollout.phase_timer import PHASES, Phase, PhaseTotals

FACTOR = 20.0
"""Ratio of a timeout to the quantile: a phase that takes this many times longer is not slow but stuck."""
QUANTILE = 0.99
WINDOW = 1000
"""Durations that the quantile is taken over; with fewer than 200 it is the second longest."""
SLOW = 0.25
"""Fraction of its timeout from which on a phase is reported as slow."""


@dataclass(frozen=True)
class Overdue:
    """A phase that has exceeded its timeout."""

    attempt_id: int
    phase: Phase
    for_s: float
    limit_s: float

    def __str__(self) -> str:
        """Return a clause for error messages."""
        return f"{self.phase} took longer than its timeout of {self.limit_s:.3g} s"


class _RecentDurations:
    """Durations in a sliding window, and a high quantile of them."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=WINDOW)
        self._quantile: float | None = 0.0

    def add(self, seconds: float) -> None:
        if seconds > 0:
            self._durations.append(seconds)
            self._quantile = None

    def quantile(self) -> float:
        if self._quantile is None:
            ordered = sorted(self._durations)
            rank = min(math.ceil(QUANTILE * len(ordered)), len(ordered) - 1)
            self._quantile = ordered[max(rank, 1) - 1]
        return self._quantile


class Timeouts:
    """Timeouts of every phase of an episode, of batches, of start-up, and of silence."""

    def __init__(self, floors: Floors):
        self._floors = floors
        self._phases = {phase: _RecentDurations() for phase in PHASES}
        self._batches = _RecentDurations()

    @property
    def silence_s(self) -> float:
        """Seconds without a heartbeat after which a process is ended."""
        longest = max(self.limit_s(phase) for phase in ("make", "reset", "step", "render"))
        return self._floors.silence if longest <= self._floors.make else self._floors.silence + longest

    @property
    def start_s(self) -> float:
        """Seconds without progress after which a process that is starting is ended."""
        return self._floors.start

    @property
    def batch_s(self) -> float:
        """Seconds that one batch of a policy may take."""
        return max(self._floors.query, FACTOR * self._batches.quantile())

    def limit_s(self, phase: Phase) -> float:
        """Return the seconds that a phase may take."""
        floor: float = getattr(self._floors, phase)
        return max(floor, FACTOR * self._phases[phase].quantile())

    def learn(self, totals: Mapping[Phase, PhaseTotals]) -> None:
        """Take in the longest completed span of each phase since the previous heartbeat of an env actor."""
        for phase, total in totals.items():
            self._phases[phase].add(total.longest_s)

    def learn_batch(self, longest_s: float) -> None:
        """Take in the longest completed batch since the previous heartbeat of a policy worker."""
        self._batches.add(longest_s)

    def overdue(
        self,
        heartbeat: EnvActorHeartbeat,
        unheard_s: float = 0.0,
        *,
        answering_s: Callable[[int], float] = lambda attempt_id: 0.0,
    ) -> Overdue | None:
        """Return the first activity of an env actor that has exceeded its timeout, if any.

        An actor simulates one environment at a time, so the others wait behind one that hangs. A phase that hangs
        is therefore named before a query, and a query is judged by its policy: it was lost if it has waited longer,
        by its timeout, than the oldest query that the policy has not answered.

        Args:
          unheard_s: Age of the heartbeat, in seconds.
          answering_s: Age of the oldest query that the policy of an attempt has not answered.
        """
        simulating = [a for a in heartbeat.doing if a.phase is not None and a.phase != "query"]
        waiting = [
            replace(a, for_s=a.for_s - answering_s(a.attempt_id))
            for a in heartbeat.doing
            if a.phase == "query"
        ]
        hanging = any(a.for_s > SLOW * self.limit_s(a.phase) for a in simulating if a.phase is not None)
        judged = simulating if hanging else [*simulating, *waiting]
        return next((found for activity in judged if (found := self._judge(activity, unheard_s))), None)

    def slow(self, heartbeat: EnvActorHeartbeat) -> Activity | None:
        """Return an activity that has used up a considerable part of its timeout, if any."""
        for activity in heartbeat.doing:
            if activity.phase is not None and activity.for_s > SLOW * self.limit_s(activity.phase):
                return activity
        return None

    def _judge(self, activity: Activity, unheard_s: float) -> Overdue | None:
        if activity.phase is None:
            return None
        limit, spent = self.limit_s(activity.phase), activity.for_s + unheard_s
        return Overdue(activity.attempt_id, activity.phase, spent, limit) if spent > limit else None
