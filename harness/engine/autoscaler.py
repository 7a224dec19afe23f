"""How many simulators, environments of each, and policy workers there are: judged again and again. Pure.

An environment goes round: it is simulated up to its next query, waits for the end of the call that is running,
and then for its own. By Little's law as many must be on their way as complete rounds in the time of one:

    enough = rate * (simulating + 2 calls),    rate = min(simulators / simulating, workers * rows / call)

with the times that were measured. That supposes that everything takes its mean time. Where somebody still
waits, one more for each simulator is tried, and kept if queries per second rise by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from simloop.harness.recording.engine_metrics import EngineMetrics

START = 2  # Environments of a simulator before anything is measured: one is simulated while the other waits.
CALLS_OF_A_ROUND = 2  # The one that is running when a query arrives, and its own.
BEYOND = 2
"""Times what the measured times ask for, beyond which nothing is tried, and what is there was found for others."""
BUSY = 0.97
"""Share of the time from which on a simulator or a device counts as never waiting."""
GAIN = 1.02
"""Factor by which queries per second must rise for one more environment to have been worth its memory."""
SPARE = 0.8
"""Share of what policies can answer that simulators may ask for before another worker is started: at full
load every unevenness makes a queue."""
HEADROOM = 0.12
"""Share of the machine's memory that is never planned with."""
GUESS_BYTES = 2 * 2**30
"""Memory of a simulator before any is measured; a LIBERO scene takes 1.6 GiB while it draws."""


@dataclass(frozen=True)
class Limits:
    """What cannot be exceeded, and what was set by hand."""

    simulators: int
    """Most of them: one for each core, or what was said."""
    workers: int
    """Most for each policy: one for each device, or what was said."""
    total_bytes: int
    """Memory of the machine."""
    places: int | None = None
    """Environments of each simulator, where that was said."""
    simulators_by_hand: bool = False
    workers_by_hand: bool = False
    asked_elsewhere: bool = True
    """Whether any policy answers in another process: otherwise nobody ever waits."""


class Autoscaler:
    """Finds the numbers; those set by hand stay.

    Args:
      room: Simulators that there is memory for by a guess, before any is measured.
    """

    def __init__(self, limits: Limits, room: int | None = None):
        self._limits = limits
        self.places = limits.places or (START if limits.asked_elsewhere else 1)
        self.simulators = limits.simulators
        if room is not None and not limits.simulators_by_hand:
            self.simulators = max(1, min(limits.simulators, room))
        self.workers = limits.workers if limits.workers_by_hand else 1
        self._before: float | None = None
        """Queries per second before the environment that is being tried; None where none is."""
        self._settled_at: int | None = None
        """What was enough when trying ended."""
        self._most_places = math.inf
        """By memory, once it has run short."""

    def reset(self) -> None:
        """Another policy is played: what was found need not hold for it."""
        self._before = self._settled_at = None

    def judge(self, figures: EngineMetrics) -> str:
        """Look at what a while has shown in which as many environments as possible were under way.

        Returns the reason if a number was changed, else nothing.
        """
        if self.short_of_memory(figures):
            return self._less()
        if not figures.waiting:  # Nobody is left to be played beside those under way.
            return ""
        room = self._room(figures)
        if self.simulators < self._limits.simulators and room >= self.places:
            self.simulators = min(self._limits.simulators, self.simulators + room // self.places)
            return "memory has room for more simulators"
        if figures.sim_ms is None or figures.call_ms is None:
            return ""
        if reason := self._more_workers(figures.sim_ms, figures.call_ms, figures.call_rows):
            return reason
        return self._environments(figures, room) if self._limits.places is None else ""

    def short_of_memory(self, figures: EngineMetrics) -> bool:
        """Whether the machine with least has hardly any left."""
        free = figures.free_bytes
        return free is not None and free < HEADROOM / 2 * self._limits.total_bytes

    def _less(self) -> str:
        if self._limits.places is None and self.places > 1:
            self.places -= 1
            self._most_places = self.places
        elif self.simulators > 1 and not self._limits.simulators_by_hand:
            self.simulators -= 1
            self._limits = replace(self._limits, simulators=self.simulators)
        else:
            return ""
        return "the machine runs short of memory"

    def _room(self, figures: EngineMetrics) -> int:
        """Environments that memory has room for, beside those that are there."""
        if figures.free_bytes is None or not figures.env_bytes:
            return 0
        return max(0, int((figures.free_bytes - HEADROOM * self._limits.total_bytes) / figures.env_bytes))

    def _more_workers(self, sim_ms: float, call_ms: float, rows: float) -> str:
        if self._limits.workers_by_hand or call_ms <= 0:
            return ""
        asked, answered = 1e3 * self.simulators / sim_ms, 1e3 * rows / call_ms
        wanted = min(self._limits.workers, math.ceil(asked / (SPARE * answered)))
        if wanted <= self.workers:
            return ""
        self.workers = wanted
        return f"simulators can ask {asked:.3g} times a second, and one worker answers {answered:.3g}"

    def enough(self, sim_ms: float, call_ms: float, rows: float) -> int:
        """Environments of each simulator that keep the scarcer side busy if everything takes its mean time.

        Args:
          sim_ms: What a simulator does for one query: steps, frames, its part of resets.
          call_ms: One call of a policy.
          rows: Queries that a call has room for.
        """
        rate = self.simulators / sim_ms
        if call_ms > 0:
            rate = min(rate, self.workers * rows / call_ms)
        return max(START, math.ceil(rate * (sim_ms + CALLS_OF_A_ROUND * call_ms) / self.simulators - 1e-6))

    def _environments(self, figures: EngineMetrics, room: int) -> str:
        assert figures.sim_ms is not None
        assert figures.call_ms is not None
        enough = self.enough(figures.sim_ms, figures.call_ms, figures.call_rows)
        rate, before = figures.queries_per_s or 0.0, self._before
        self._before = None
        most = min(self.places + room // self.simulators, self._most_places)
        times = f"a query takes {figures.sim_ms:.3g} ms of simulating and {figures.call_ms:.3g} ms of a call"
        if self.places < min(enough, most):
            self._settled_at = None
            self.places = int(min(enough, most))
            return times
        if before is not None and rate < GAIN * before:
            self.places -= 1
            self._settled_at = enough
            return "one more brought nothing"
        if self.places > BEYOND * enough:
            self.places, self._settled_at = enough, None
            return times
        if self._settled_at is not None and enough <= self._settled_at:
            return ""
        if self.places >= min(BEYOND * enough, most) or _nobody_waits(figures):
            return ""
        self._before = rate
        self.places += 1
        return f"simulators waited {1 - (figures.simulator_share or 0.0):.0%} of the time, the policy {_idle(figures)}"


def _nobody_waits(figures: EngineMetrics) -> bool:
    full = (figures.device_share or 0.0) >= BUSY and (figures.batch_fill or 0.0) >= BUSY
    return full or (figures.simulator_share or 0.0) >= BUSY


def _idle(figures: EngineMetrics) -> str:
    idle = 1 - (figures.device_share or 0.0)
    fill = figures.batch_fill or 0.0
    return f"{idle:.0%}" if idle > 1 - BUSY else f"filled {fill:.0%} of its rows"
