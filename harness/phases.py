"""What a simulator's process is doing at this moment, and what that took so far.

The process itself only writes down what it begins; whoever judges it lives elsewhere (`harness.deadlines`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

Phase = Literal["make", "reset", "step", "render", "query"]
PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass
class PhaseTotals:
    """What all passes through one phase took together, those under way left out."""

    count: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Of the thread that simulates; 0 for `query`, which is waiting."""
    longest_s: float = 0.0

    def __add__(self, other: PhaseTotals) -> PhaseTotals:
        """Both together."""
        return PhaseTotals(
            self.count + other.count,
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            max(self.longest_s, other.longest_s),
        )

    def since(self, before: PhaseTotals) -> PhaseTotals:
        """What came after an earlier reading; the longest stays that of all."""
        return PhaseTotals(
            self.count - before.count,
            self.wall_s - before.wall_s,
            self.cpu_s - before.cpu_s,
            self.longest_s,
        )


class Place:
    """Where one environment is in its episode."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.phase: Phase | None = None
        self.since = time.perf_counter()

    @contextmanager
    def doing(self, phase: Phase) -> Iterator[None]:
        """What happens inside is this phase; it counts once it has come to its end."""
        began, cpu = time.perf_counter(), time.thread_time()
        self.phase, self.since = phase, began
        if phase == "query":
            self._board.waits(began)
        try:
            yield
        finally:
            ended = time.perf_counter()
            if phase == "query":
                self._board.resumes(ended)
                cpu = time.thread_time()
            self.phase, self.since = None, ended
        totals = self._board.totals[phase]
        totals.count += 1
        totals.wall_s += ended - began
        totals.cpu_s += time.thread_time() - cpu
        totals.longest_s = max(totals.longest_s, ended - began)


@dataclass
class Board:
    """All environments of a process, of which one at a time is simulated while the others wait."""

    totals: dict[Phase, PhaseTotals] = field(default_factory=lambda: {p: PhaseTotals() for p in PHASES})
    _busy: int = 0
    _idle_s: float = 0.0
    _idle_since: float | None = field(default_factory=time.perf_counter)
    last_busy: float = 0.0
    """When the process last had nothing to simulate, on its own clock."""

    def place(self) -> Place:
        """For an environment that begins an episode."""
        self.resumes(time.perf_counter())
        return Place(self)

    def leave(self) -> None:
        """An environment has ended its episode."""
        self.waits(time.perf_counter())

    def waits(self, now: float) -> None:
        """One environment has nothing to do from now on."""
        self._busy -= 1
        self.last_busy = now
        if self._busy == 0:
            self._idle_since = now

    def resumes(self, now: float) -> None:
        """One environment has something to do again."""
        if self._busy == 0 and self._idle_since is not None:
            self._idle_s += now - self._idle_since
            self._idle_since = None
        self._busy += 1

    def idle_s(self) -> float:
        """Seconds in which no environment of the process could be simulated."""
        since = self._idle_since
        return self._idle_s + (time.perf_counter() - since if since is not None else 0.0)

    def read(self) -> Mapping[Phase, PhaseTotals]:
        """A copy of the totals, which may be sent elsewhere."""
        return {phase: replace(totals) for phase, totals in self.totals.items()}
