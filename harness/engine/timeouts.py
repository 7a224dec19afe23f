"""How long a phase may take before its process is given up. Pure: it is told what was measured.

A hang is told from a slow machine by what the same phase took before: a deadline is many times the longest
that came to its end, and never below a floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simloop.harness.actors.heartbeat import Activity, EnvActorHeartbeat
from simloop.harness.engine.resources import Floors
from simloop.harness.rollout.phase_timer import PHASES, Phase, PhaseTotals

MANY_TIMES = 20.0
"""A phase that takes this many times its longest is not slow but stuck."""
SLOW = 0.25
"""Share of its deadline from which on a phase is mentioned to whoever watches."""


@dataclass(frozen=True)
class Overdue:
    """A phase that did not come to its end in time."""

    attempt_id: int
    phase: Phase
    for_s: float
    limit_s: float

    def __str__(self) -> str:
        """As in an error."""
        return f"{self.phase} took longer than its deadline of {self.limit_s:.3g} s"


class Timeouts:
    """What is expected of every phase, from all that was measured in the run."""

    def __init__(self, floors: Floors):
        self._floors = floors
        self._longest: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)
        self._longest_call_s = 0.0

    @property
    def silence_s(self) -> float:
        """How long a process may say nothing."""
        held = max(self.limit_s(phase) for phase in ("make", "reset", "step", "render"))
        return self._floors.silence if held <= self._floors.make else self._floors.silence + held

    @property
    def start_s(self) -> float:
        """How long a process may take to be ready."""
        return self._floors.start

    @property
    def call_s(self) -> float:
        """How long one call of a policy may run."""
        return max(self._floors.query, MANY_TIMES * self._longest_call_s)

    def limit_s(self, phase: Phase) -> float:
        """The deadline of a phase."""
        floor: float = getattr(self._floors, phase)
        return max(floor, MANY_TIMES * self._longest[phase])

    def learn(self, totals: Mapping[Phase, PhaseTotals]) -> None:
        """Take in what phases took that came to their end."""
        for phase, total in totals.items():
            self._longest[phase] = max(self._longest[phase], total.longest_s)

    def learn_call(self, longest_s: float) -> None:
        """Take in what calls of a policy took that came to their end."""
        self._longest_call_s = max(self._longest_call_s, longest_s)

    def overdue(
        self, heartbeat: EnvActorHeartbeat, unheard_s: float = 0.0, *, answers_due: bool = True
    ) -> Overdue | None:
        """The environment that has been in its phase for too long, if one has.

        One process simulates one environment at a time, so that the others behind a hanging one wait with
        it: `query` is judged only where nothing else is under way.

        Args:
          unheard_s: How long ago the process said what it was doing.
          answers_due: Whether policies have nothing left to answer, so that who still waits waits for ever.
        """
        simulating = [d for d in heartbeat.doing if d.phase is not None and d.phase != "query"]
        judged = simulating or [d for d in heartbeat.doing if d.phase == "query" and answers_due]
        for doing in judged:
            if found := self._judge(doing, unheard_s):
                return found
        return None

    def slow(self, heartbeat: EnvActorHeartbeat) -> Activity | None:
        """An environment that is on its way to its deadline."""
        for doing in heartbeat.doing:
            if doing.phase is not None and doing.for_s > SLOW * self.limit_s(doing.phase):
                return doing
        return None

    def _judge(self, doing: Activity, unheard_s: float) -> Overdue | None:
        if doing.phase is None:
            return None
        limit, spent = self.limit_s(doing.phase), doing.for_s + unheard_s
        return Overdue(doing.attempt_id, doing.phase, spent, limit) if spent > limit else None
