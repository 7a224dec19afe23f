"""How many environments each simulator has under way, judged again and again while the run goes on. Pure.

A simulator that waits although a policy has time, or computes half-empty batches, needs more environments
that can be simulated meanwhile. When simulators never wait, or policies never do, more would only take memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.figures import Figures

START = 2  # One is simulated while the other waits.
MOST = 8
"""More of them add nothing that was seen to help, and take memory."""
GROWTH = 1.5
BUSY = 0.97
"""Share of the time from which on a simulator or a device counts as never waiting."""
GAIN = 1.02
"""Factor by which queries per second must rise for one more environment to have been worth its memory."""
PATIENCE = 2
"""Rises without a gain, one after another, after which it is left at that."""
HEADROOM = 0.12
"""Share of the machine's memory that is never planned with."""


@dataclass(frozen=True)
class Judgement:
    """What is to be changed."""

    places: int
    reason: str = ""
    short_of_memory: bool = False


class Sizing:
    """Finds the number of environments of each simulator; a number set by hand stays.

    Args:
      asked_elsewhere: Whether any policy answers in another process: otherwise nobody ever waits.
      total_bytes: Memory of the machine.
    """

    def __init__(self, by_hand: int | None, *, asked_elsewhere: bool, total_bytes: int):
        self._by_hand = by_hand
        self._total = total_bytes
        self._adaptive = by_hand is None and asked_elsewhere
        self.places = by_hand or (START if asked_elsewhere else 1)
        self._best_rate = 0.0
        self._stale = 0

    def reset(self) -> None:
        """Another policy is played: what was found need not hold for it."""
        self._best_rate, self._stale = 0.0, 0

    def judge(self, figures: Figures) -> Judgement:
        """Look at the figures of the last seconds, in which as many environments as possible were under way."""
        short = figures.free_bytes is not None and figures.free_bytes < HEADROOM / 2 * self._total
        if short:
            if self._adaptive and self.places > 1:
                self.places -= 1
                self._stale = PATIENCE
                return Judgement(self.places, "the machine runs short of memory", True)
            return Judgement(self.places, short_of_memory=True)
        if not self._adaptive or self._stale >= PATIENCE or self.places >= MOST:
            return Judgement(self.places)
        rate = figures.queries_per_s
        if rate is None or figures.simulator_share is None or figures.device_share is None:
            return Judgement(self.places)
        if figures.simulator_share >= BUSY or _full(figures):
            return Judgement(self.places)
        if not figures.waiting:  # Nobody is left to be played beside those under way.
            return Judgement(self.places)
        self._stale = self._stale + 1 if rate < GAIN * self._best_rate else 0
        self._best_rate = max(self._best_rate, rate)
        wanted = min(MOST, math.ceil(GROWTH * self.places), self._fitting(figures))
        if self._stale >= PATIENCE or wanted <= self.places:
            return Judgement(self.places)
        self.places = wanted
        return Judgement(
            wanted,
            f"simulators waited {1 - figures.simulator_share:.0%} of the time, the policy {_idle(figures)}",
        )

    def _fitting(self, figures: Figures) -> int:
        """Environments of each simulator that memory has room for."""
        if figures.env_bytes is None or figures.free_bytes is None or not figures.simulators:
            return self.places
        room = figures.free_bytes - HEADROOM * self._total
        return self.places + max(0, int(room / figures.env_bytes / figures.simulators))


def _full(figures: Figures) -> bool:
    return (figures.device_share or 0.0) >= BUSY and (figures.batch_fill or 0.0) >= BUSY


def _idle(figures: Figures) -> str:
    idle = 1 - (figures.device_share or 0.0)
    fill = figures.batch_fill or 0.0
    return f"{idle:.0%}" if idle > 1 - BUSY else f"filled {fill:.0%} of its rows"
