"""Time that env actors spend in each phase of their episodes, and the phase they are in now.

Timers only record; `simloop.harness.engine.timeouts` judges whether a phase takes too long.
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
    """Totals of all completed spans of one phase."""

    count: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    """CPU time of the simulating thread; 0 for `query`, which is waiting."""
    longest_s: float = 0.0
    """Wall time of the longest span."""

    def __add__(self, other: PhaseTotals) -> PhaseTotals:
        """Return the totals of both."""
        return PhaseTotals(
            self.count + other.count,
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            max(self.longest_s, other.longest_s),
        )

    def since(self, before: PhaseTotals) -> PhaseTotals:
        """Return the totals since an earlier reading; `longest_s` stays that of all spans."""
        return PhaseTotals(
            self.count - before.count,
            self.wall_s - before.wall_s,
            self.cpu_s - before.cpu_s,
            self.longest_s,
        )


class PhaseTimer:
    """The timer of one env slot: its current phase, and since when."""

    def __init__(self, timers: PhaseTimers) -> None:
        self.timers = timers
        self.phase: Phase | None = None
        self.since = time.perf_counter()

    def span(self, phase: Phase) -> _Span:
        """Return a context manager that times a phase. A span that raises is not counted."""
        return _Span(self, phase)


class _Span:
    """One span of a phase. A class, because a generator would cost more than some steps do."""

    __slots__ = ("_cpu", "_phase", "_started", "_timer")

    def __init__(self, timer: PhaseTimer, phase: Phase):
        self._timer, self._phase = timer, phase

    def __enter__(self) -> None:
        timer = self._timer
        self._cpu, self._started = time.thread_time(), time.perf_counter()
        timer.phase, timer.since = self._phase, self._started
        if self._phase == "query":
            timer.timers.waits(self._started)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        timer, phase, ended = self._timer, self._phase, time.perf_counter()
        timer.phase, timer.since = None, ended
        if phase == "query":
            timer.timers.resumes(ended)
        if kind is not None:
            return
        totals, spent_s = timer.timers.totals[phase], ended - self._started
        totals.count += 1
        totals.wall_s += spent_s
        totals.longest_s = max(totals.longest_s, spent_s)
        if phase != "query":  # Other environments are simulated while one waits.
            totals.cpu_s += time.thread_time() - self._cpu


@dataclass
class PhaseTimers:
    """The timers of all env slots of a process, which simulates one environment while the others wait."""

    totals: dict[Phase, PhaseTotals] = field(default_factory=lambda: {p: PhaseTotals() for p in PHASES})
    _busy: int = 0
    _idle_s: float = 0.0
    _idle_since: float | None = field(default_factory=time.perf_counter)

    def enter(self) -> PhaseTimer:
        """Return the timer of a slot that begins an episode."""
        self.resumes(time.perf_counter())
        return PhaseTimer(self)

    def leave(self) -> None:
        """Record that a slot has ended its episode."""
        self.waits(time.perf_counter())

    def waits(self, now: float) -> None:
        """Record that a slot has nothing to simulate from `now` on."""
        self._busy -= 1
        if self._busy == 0:
            self._idle_since = now

    def resumes(self, now: float) -> None:
        """Record that a slot has something to simulate from `now` on."""
        if self._busy == 0 and self._idle_since is not None:
            self._idle_s += now - self._idle_since
            self._idle_since = None
        self._busy += 1

    def idle_s(self) -> float:
        """Return the seconds in which no environment of the process could be simulated."""
        since = self._idle_since
        return self._idle_s + (time.perf_counter() - since if since is not None else 0.0)

    def read(self) -> Mapping[Phase, PhaseTotals]:
        """Return a copy of the totals, which may be sent to another process; starts `longest_s` anew."""
        copy = {phase: replace(totals) for phase, totals in self.totals.items()}
        for totals in self.totals.values():
            totals.longest_s = 0.0
        return copy
