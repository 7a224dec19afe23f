"""Poll heartbeats, replace processes that hang or grow too large, and rescale the pools by measured throughput."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from simloop.harness.actors.heartbeat import EnvActorHeartbeat, WorkerHeartbeat
from simloop.harness.engine.autoscaler import Autoscaler
from simloop.harness.engine.env_pool import Death, EnvActorHandle, EnvPool
from simloop.harness.engine.metrics import env_actor_metrics, worker_metrics
from simloop.harness.engine.timeouts import Timeouts
from simloop.harness.engine.worker_pool import Worker, WorkerPool
from simloop.harness.recording.engine_metrics import EngineMetrics
from simloop.harness.rollout.phase_timer import Phase

HEARTBEAT_S = 2.0
"""Seconds between two heartbeats of a process; each costs some milliseconds of CPU time."""
HEARTBEATS_PER_S = 200.0
"""Upper limit over all processes: with many of them, each is polled less often."""
WINDOW_S = 6.0
"""Shortest measurement window of the autoscaler; rates over less are too noisy to detect a gain of 2 %."""
WINDOW_QUERIES = 60
"""Queries that a window should hold."""
LONGEST_WINDOW_S = 60.0
"""A window is evaluated after this time even if it holds fewer queries."""
FAR_LARGER = 1.5
"""Ratio to the median size (or to the limit) beyond which an env actor is replaced at once."""

PHASE_NAMES: dict[Phase, str] = {
    "make": "creating an environment",
    "reset": "a reset",
    "step": "a step",
    "render": "rendering a camera",
    "query": "a policy query",
}


@dataclass(frozen=True)
class _Window:
    """Heartbeats at the start of a measurement window."""

    began: float
    env_actors: dict[EnvActorHandle, EnvActorHeartbeat]
    workers: dict[Worker, WorkerHeartbeat]


class Supervisor:
    """Watches both pools of an engine, which calls `look_after` regularly.

    Args:
      actor_memory_gib: Memory limit of an env actor; None to act only when a node runs short of memory.
    """

    def __init__(
        self,
        env_pool: EnvPool,
        worker_pool: WorkerPool,
        timeouts: Timeouts,
        autoscaler: Autoscaler,
        actor_memory_gib: float | None,
    ):
        self._env_pool = env_pool
        self._worker_pool = worker_pool
        self._timeouts = timeouts
        self._autoscaler = autoscaler
        self._memory_gib = actor_memory_gib
        self._active_policies: set[str] = set()
        self._window: _Window | None = None
        self._shrunk_at = float("-inf")
        """When the pools were last shrunk because memory ran short."""
        self.retried = 0
        self.replaced = 0
        self.metrics = EngineMetrics()
        """Metrics over the last seconds."""

    def look_after(self, now: float, *, waiting: int) -> tuple[list[Death], list[str]]:
        """Poll, judge and rescale; returns the env actors that were ended, and notes for the user.

        Args:
          now: Seconds on the monotonic clock.
          waiting: Episodes that have not been started.
        """
        processes = len(self._env_pool.all) + len(self._worker_pool.all)
        every_s = max(HEARTBEAT_S, processes / HEARTBEATS_PER_S)
        self._env_pool.poll(now, every_s)
        self._worker_pool.poll(now, every_s)
        deaths = self._env_pool.judge(now, self._worker_pool.oldest_query_s)
        notes = self._worker_pool.judge(now)
        self.replaced += len(notes)
        notes += self._env_pool.take_notes()
        self.metrics = self._measure(waiting)
        self._rescale(now, notes)
        if death := self._replace_largest():
            deaths.append(death)
        return deaths, notes

    def _rescale(self, now: float, notes: list[str]) -> None:
        policies = {attempt.spec.policy for attempt in self._env_pool.attempts()}
        if policies != self._active_policies:
            self._active_policies = policies
            self._autoscaler.reset()
            self._window = None
        measured = self._measured_window(now)
        if self._autoscaler.short_of_memory(self.metrics) and now - self._shrunk_at >= WINDOW_S:
            self._shrunk_at, measured = now, self.metrics
        if measured is None:
            return
        self._window = None
        if reason := self._autoscaler.judge(measured):
            notes.append(
                f"Rescaled to {self._autoscaler.env_actors} env actors with {self._autoscaler.envs_per_actor} "
                f"environments each and {self._autoscaler.workers} workers per policy: {reason}."
            )

    def _measured_window(self, now: float) -> EngineMetrics | None:
        """Metrics of a complete measurement window, or None while there is none."""
        if self._window is None:
            if self._filled():
                self._window = _Window(
                    now,
                    {actor: actor.heartbeat for actor in self._env_pool.all if actor.heartbeat},
                    {worker: worker.heartbeat for worker in self._worker_pool.all if worker.heartbeat},
                )
            return None
        elapsed_s = now - self._window.began
        if elapsed_s < WINDOW_S:
            return None
        earlier = self._window
        env_actors = [
            (before, actor.heartbeat)
            for actor in self._env_pool.all
            if actor.heartbeat and (before := earlier.env_actors.get(actor))
        ]
        workers = [
            (since, worker.heartbeat)
            for worker in self._worker_pool.all
            if worker.heartbeat and (since := earlier.workers.get(worker))
        ]
        measured = replace(
            self.metrics, **asdict(env_actor_metrics(env_actors)), **asdict(worker_metrics(workers))
        )
        too_few = (measured.queries_per_s or 0.0) * elapsed_s < WINDOW_QUERIES
        return None if too_few and elapsed_s < LONGEST_WINDOW_S else measured

    def _filled(self) -> bool:
        """Whether the env actors have all environments that they may have, or one per running episode."""
        alive = [a.heartbeat.environments for a in self._env_pool.all if a.heartbeat is not None]
        allowed = self._autoscaler.envs_per_actor * len(alive)
        return bool(alive) and sum(alive) >= min(allowed, self._env_pool.running)

    def _replace_largest(self) -> Death | None:
        """Replace an env actor that has grown beyond its limit, or far beyond the others where memory is short."""
        sizes = {
            a: a.heartbeat.process.rss_bytes
            for a in self._env_pool.all
            if a.heartbeat is not None and not a.leaving
        }
        if not sizes:
            return None
        largest = max(sizes, key=sizes.__getitem__)
        at_once = False
        if self._memory_gib is None:
            median = sorted(sizes.values())[(len(sizes) - 1) // 2]
            if not self._autoscaler.short_of_memory(self.metrics) or sizes[largest] < FAR_LARGER * median:
                return None
        elif sizes[largest] < self._memory_gib * 2**30:
            return None
        else:
            at_once = sizes[largest] > FAR_LARGER * self._memory_gib * 2**30
        reason = f"it has grown to {sizes[largest] / 2**30:.1f} GiB"
        return self._env_pool.replace(largest, reason, at_once=at_once)

    def _measure(self, waiting: int) -> EngineMetrics:
        env_actors = [(a.previous, a.heartbeat) for a in self._env_pool.all if a.previous and a.heartbeat]
        workers = [(w.previous, w.heartbeat) for w in self._worker_pool.all if w.previous and w.heartbeat]
        slow = next((activity for _, h in env_actors if (activity := self._timeouts.slow(h))), None)
        return EngineMetrics(
            **asdict(env_actor_metrics(env_actors)),
            **asdict(worker_metrics(workers)),
            simulators=len(self._env_pool.all),
            places=self._autoscaler.envs_per_actor,
            running=self._env_pool.running,
            waiting=waiting,
            workers=len(self._worker_pool.all),
            starting=self._worker_pool.starting(),
            retried=self.retried,
            replaced=self.replaced,
            slow=f"{PHASE_NAMES[slow.phase]} for {slow.for_s:.0f} s" if slow and slow.phase else "",
        )
