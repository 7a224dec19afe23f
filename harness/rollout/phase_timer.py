"""What a simulator's process is doing at this moment, and what that took so far.

The process itself only writes down what it begins; whoever judges it lives elsewhere (`simloop.harness.engine.timeouts`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
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


class PhaseTimer:
    """Where one environment is in its episode."""

    def __init__(self, timers: PhaseTimers) -> None:
        self.timers = timers
        self.phase: Phase | None = None
        self.since = time.perf_counter()

    def doing(self, phase: Phase) -> _Span:
        """What happens inside is this phase; it counts once it has come to its end."""
        return _Span(self, phase)


class _Span:
    """One pass through a phase. A class, since a generator would cost more than some steps do."""

    __slots__ = ("_began", "_cpu", "_phase", "_timer")

    def __init__(self, place: PhaseTimer, phase: Phase):
        self._timer, self._phase = place, phase

    def __enter__(self) -> None:
        place = self._timer
        self._cpu, self._began = time.thread_time(), time.perf_counter()
        place.phase, place.since = self._phase, self._began
        if self._phase == "query":
            place.timers.waits(self._began)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        place, phase, ended = self._timer, self._phase, time.perf_counter()
        place.phase, place.since = None, ended
        if phase == "query":
            place.timers.resumes(ended)
        if kind is not None:
            return
        totals, spent_s = place.timers.totals[phase], ended - self._began
        totals.count += 1
        totals.wall_s += spent_s
        totals.longest_s = max(totals.longest_s, spent_s)
        if phase != "query":  # Waiting, in which others are simulated.
            totals.cpu_s += time.thread_time() - self._cpu


@dataclass
class PhaseTimers:
    """All environments of a process, of which one at a time is simulated while the others wait."""

    totals: dict[Phase, PhaseTotals] = field(default_factory=lambda: {p: PhaseTotals() for p in PHASES})
    _busy: int = 0
    _idle_s: float = 0.0
    _idle_since: float | None = field(default_factory=time.perf_counter)
    last_busy: float = 0.0
    """When the process last had nothing to simulate, on its own clock."""

    def place(self) -> PhaseTimer:
        """For an environment that begins an episode."""
        self.resumes(time.perf_counter())
        return PhaseTimer(self)

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
