"""Looks after the processes of a run: asks how they are, ends those that hang or swell, sizes, keeps the figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from simloop.harness.actors.heartbeat import EnvActorHeartbeat, WorkerHeartbeat
from simloop.harness.engine.autoscaler import Autoscaler
from simloop.harness.engine.env_pool import Death, EnvActorHandle, EnvPool
from simloop.harness.engine.metrics import env_actor_metrics, phase_text, worker_metrics
from simloop.harness.engine.timeouts import Timeouts
from simloop.harness.engine.worker_pool import Worker, WorkerPool
from simloop.harness.recording.engine_metrics import EngineMetrics

HEALTH_S = 2.0
"""Between two questions after the health of a process, each of which costs some milliseconds on cores; of many
processes each is asked more rarely."""
HEALTHS_PER_S = 200.0
WINDOW_S = 6.0
"""Between two judgements of the sizes; rates over less are too uneven to tell 2 % from nothing."""
WINDOW_QUERIES = 60
LONGEST_WINDOW_S = 60.0
"""After which is judged by however few queries there were."""
FAR_LARGER = 1.5
"""Times the usual size, from which on a process is to blame where memory runs short."""


@dataclass(frozen=True)
class _Window:
    """What everybody had said of themselves when a while began that is judged by."""

    began: float
    simulators: dict[EnvActorHandle, EnvActorHeartbeat]
    workers: dict[Worker, WorkerHeartbeat]


class Supervisor:
    """Does its round whenever the engine has a moment.

    Args:
      actor_memory_gib: What a simulator may grow to; None to act when the machine runs short of memory.
    """

    def __init__(
        self,
        simulators: EnvPool,
        worker_pool: WorkerPool,
        timeouts: Timeouts,
        autoscaler: Autoscaler,
        actor_memory_gib: float | None,
    ):
        self._env_pool = simulators
        self._worker_pool = worker_pool
        self._timeouts = timeouts
        self._autoscaler = autoscaler
        self._memory_gib = actor_memory_gib
        self._under_way: set[str] = set()
        self._window: _Window | None = None
        self._eased = float("-inf")
        """When memory last ran short."""
        self.retried = 0
        self.replaced = 0
        self.figures = EngineMetrics()
        """The last seconds."""

    def look_after(self, now: float, *, waiting: int) -> tuple[list[Death], list[str]]:
        """A round; who is no more, and what else there is to say. `waiting` episodes have not been begun."""
        every_s = max(HEALTH_S, (len(self._env_pool.all) + len(self._worker_pool.all)) / HEALTHS_PER_S)
        self._env_pool.ask_all(now, every_s)
        self._worker_pool.ask_all(now, every_s)
        deaths = self._env_pool.judge(now, answers_due=self._worker_pool.idle())
        notes = self._worker_pool.judge(now)
        self.replaced += len(notes)
        self.figures = self._measured(waiting)
        self._size(now, notes)
        if death := self._without_the_largest():
            deaths.append(death)
        return deaths, notes

    def _size(self, now: float, notes: list[str]) -> None:
        policies = {attempt.spec.policy for attempt in self._env_pool.attempts()}
        if policies != self._under_way:
            self._under_way = policies
            self._autoscaler.reset()
            self._window = None
        seen = self._seen(now)
        if self._autoscaler.short_of_memory(self.figures) and now - self._eased >= WINDOW_S:
            self._eased, seen = now, self.figures
        if seen is None:
            return
        self._window = None
        if reason := self._autoscaler.judge(seen):
            notes.append(
                f"Sized anew: simulators {self._autoscaler.simulators}, environments of each {self._autoscaler.places}, "
                f"workers of a policy {self._autoscaler.workers}; {reason}."
            )

    def _seen(self, now: float) -> EngineMetrics | None:
        """The figures of a while that is long enough to be judged by."""
        if self._window is None:
            if self._filled():
                simulators = {s: s.heartbeat for s in self._env_pool.all if s.heartbeat}
                workers = {w: w.heartbeat for w in self._worker_pool.all if w.heartbeat}
                self._window = _Window(now, simulators, workers)
            return None
        spent_s = now - self._window.began
        if spent_s < WINDOW_S:
            return None
        seen = replace(self.figures, **self._over(self._window))
        few = (seen.queries_per_s or 0.0) * spent_s < WINDOW_QUERIES
        return None if few and spent_s < LONGEST_WINDOW_S else seen

    def _filled(self) -> bool:
        """Whether as many environments as there may be are there, or as many as there are episodes for."""
        there = [s.heartbeat.environments for s in self._env_pool.all if s.heartbeat is not None]
        return bool(there) and sum(there) >= min(self._autoscaler.places * len(there), self._env_pool.running)

    def _over(self, window: _Window) -> dict[str, Any]:
        """What can be said of the time since then."""
        simulators = [
            (window.simulators[s], s.heartbeat)
            for s in self._env_pool.all
            if s in window.simulators and s.heartbeat
        ]
        workers = [
            (window.workers[w], w.heartbeat)
            for w in self._worker_pool.all
            if w in window.workers and w.heartbeat
        ]
        return asdict(env_actor_metrics(simulators)) | asdict(worker_metrics(workers))

    def _without_the_largest(self) -> Death | None:
        """Replace a simulator that has grown beyond what it may have, or far beyond the others."""
        known = [s for s in self._env_pool.all if s.heartbeat is not None and not s.leaving]
        if not known:
            return None
        sizes = {s: s.heartbeat.process.rss_bytes for s in known if s.heartbeat is not None}
        largest = max(sizes, key=sizes.__getitem__)
        if self._memory_gib is None:
            usual = sorted(sizes.values())[(len(sizes) - 1) // 2]
            if not self._autoscaler.short_of_memory(self.figures) or sizes[largest] < FAR_LARGER * usual:
                return None
        elif sizes[largest] < self._memory_gib * 2**30:
            return None
        far_over = self._memory_gib is not None and sizes[largest] > FAR_LARGER * self._memory_gib * 2**30
        reason = f"it has grown to {sizes[largest] / 2**30:.1f} GiB"
        return self._env_pool.replace(largest, reason, now=far_over)

    def _measured(self, waiting: int) -> EngineMetrics:
        simulators = [(s.before, s.heartbeat) for s in self._env_pool.all if s.before and s.heartbeat]
        workers = [(w.before, w.heartbeat) for w in self._worker_pool.all if w.before and w.heartbeat]
        slow = next((d for _, h in simulators if (d := self._timeouts.slow(h))), None)
        return EngineMetrics(
            simulators=len(self._env_pool.all),
            places=self._autoscaler.places,
            running=self._env_pool.running,
            waiting=waiting,
            workers=len(self._worker_pool.all),
            starting=self._worker_pool.starting(),
            retried=self.retried,
            replaced=self.replaced,
            slow=f"{phase_text(slow.phase)} for {slow.for_s:.0f} s" if slow and slow.phase else "",
            **asdict(env_actor_metrics(simulators)),
            **asdict(worker_metrics(workers)),
        )
