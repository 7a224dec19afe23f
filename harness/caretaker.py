"""Looks after the processes of a run: asks how they are, ends those that hang or swell, sizes, keeps the figures."""

from __future__ import annotations

from harness.deadlines import Deadlines
from harness.figures import Figures, phase_text, simulator_figures, worker_figures
from harness.simulators import Death, Simulators
from harness.sizing import Sizing
from harness.workforce import Workforce

HEALTH_S = 1.0
"""Between two questions after the health of a process; of many processes each is asked more rarely."""
HEALTHS_PER_S = 200.0
FAR_LARGER = 1.5
"""Times the usual size, from which on a process is to blame where memory runs short."""


class Caretaker:
    """Does its round whenever the engine has a moment.

    Args:
      actor_memory_gib: What a simulator may grow to; None to act when the machine runs short of memory.
    """

    def __init__(
        self,
        simulators: Simulators,
        workforce: Workforce,
        deadlines: Deadlines,
        sizing: Sizing,
        actor_memory_gib: float | None,
    ):
        self._simulators = simulators
        self._workforce = workforce
        self._deadlines = deadlines
        self._sizing = sizing
        self._memory_gib = actor_memory_gib
        self._under_way: set[str] = set()
        self._short_of_memory = False
        self.retried = 0
        self.replaced = 0
        self.figures = Figures()
        """The last seconds."""

    def look_after(self, now: float, *, waiting: int) -> tuple[list[Death], list[str]]:
        """A round; who is no more, and what else there is to say. `waiting` episodes have not been begun."""
        every_s = max(HEALTH_S, (len(self._simulators.all) + len(self._workforce.all)) / HEALTHS_PER_S)
        self._simulators.ask_all(now, every_s)
        self._workforce.ask_all(now, every_s)
        deaths = self._simulators.judge(now, answers_due=self._workforce.idle())
        notes = self._workforce.judge(now)
        self.replaced += len(notes)
        self.figures = self._measured(waiting)
        self._size(notes)
        if death := self._without_the_largest():
            deaths.append(death)
        return deaths, notes

    def _size(self, notes: list[str]) -> None:
        policies = {attempt.spec.policy for attempt in self._simulators.attempts()}
        if policies != self._under_way:
            self._under_way = policies
            self._sizing.reset()
        before = self._sizing.places
        judgement = self._sizing.judge(self.figures)
        self._short_of_memory = judgement.short_of_memory
        if judgement.places != before:
            notes.append(f"{judgement.places} environments per simulator: {judgement.reason}.")

    def _without_the_largest(self) -> Death | None:
        """Replace a simulator that has grown beyond what it may have, or far beyond the others."""
        known = [s for s in self._simulators.all if s.health is not None and not s.leaving]
        if not known:
            return None
        sizes = {s: s.health.process.rss_bytes for s in known if s.health is not None}
        largest = max(sizes, key=sizes.__getitem__)
        if self._memory_gib is None:
            usual = sorted(sizes.values())[(len(sizes) - 1) // 2]
            if not self._short_of_memory or sizes[largest] < FAR_LARGER * usual:
                return None
        elif sizes[largest] < self._memory_gib * 2**30:
            return None
        far_over = self._memory_gib is not None and sizes[largest] > FAR_LARGER * self._memory_gib * 2**30
        reason = f"it has grown to {sizes[largest] / 2**30:.1f} GiB"
        return self._simulators.replace(largest, reason, now=far_over)

    def _measured(self, waiting: int) -> Figures:
        simulators = [(s.before, s.health) for s in self._simulators.all if s.before and s.health]
        workers = [(w.before, w.health) for w in self._workforce.all if w.before and w.health]
        slow = next((d for _, h in simulators if (d := self._deadlines.slow(h))), None)
        return Figures(
            simulators=len(self._simulators.all),
            places=self._sizing.places,
            running=self._simulators.running,
            waiting=waiting,
            workers=len(self._workforce.all),
            retried=self.retried,
            replaced=self.replaced,
            slow=f"{phase_text(slow.phase)} for {slow.for_s:.0f} s" if slow and slow.phase else "",
            **simulator_figures(simulators),
            **worker_figures(workers),
        )
