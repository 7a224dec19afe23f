"""Pool of policy workers: started ahead of time, restarted when they die, stopped when no longer needed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from simloop.harness.actors.heartbeat import WorkerHeartbeat
from simloop.harness.actors.policy_worker import WorkerReport
from simloop.harness.engine.processes import Post, Process, first_line, kill_process
from simloop.harness.engine.resources import EngineError
from simloop.harness.engine.timeouts import Timeouts

DEATHS_IN_A_ROW = 5
"""Deaths of a worker without a batch in between after which the run ends: another restart would not help."""


@dataclass(eq=False, kw_only=True)
class Worker(Process[WorkerHeartbeat]):
    """A policy worker. Ray restarts its process when that dies; this object and the handle stay."""

    policy: str
    progressed_at: float
    """When the current process was started or last made progress towards being ready."""
    steps: int | None = None
    """Steps of preparation that the current process has completed."""
    report: WorkerReport | None = None
    """None until the worker has been ready for the first time."""
    preparing: bool = False
    pid: int | None = None
    alive: bool = False
    """Whether the current process has sent a heartbeat."""
    deaths: int = 0
    """Deaths in a row, without a batch in between."""


class WorkerPool:
    """Policy workers by policy.

    Args:
      start: Starts a worker of a policy, by name, and returns its Ray handle.
      post: Puts outcomes into the engine's event queue, of the kinds `prepared` and `worker`.
    """

    def __init__(self, start: Callable[[str], Any], post: Post, timeouts: Timeouts):
        self._start = start
        self._post = post
        self._timeouts = timeouts
        self._by_policy: dict[str, list[Worker]] = {}

    @property
    def all(self) -> list[Worker]:
        """Every worker."""
        return [worker for workers in self._by_policy.values() for worker in workers]

    def scale_to(self, policies: Iterable[str], count: int) -> None:
        """Start missing workers of these policies; surplus ones stay."""
        for policy in policies:
            workers = self._by_policy.setdefault(policy, [])
            while len(workers) < count:
                now = time.monotonic()
                worker = Worker(policy=policy, handle=self._start(policy), progressed_at=now, heard_at=now)
                workers.append(worker)
                self._prepare(worker)

    def _prepare(self, worker: Worker) -> None:
        worker.preparing = True
        self._post("prepared", worker, worker.handle.prepare.remote().future())

    def ready(self, policy: str) -> tuple[Any, ...]:
        """Return handles of the workers of a policy that queries may be sent to.

        One that is being restarted is among them: its queries wait.
        """
        workers = self._by_policy.get(policy, [])
        return tuple(worker.handle for worker in workers if worker.report is not None)

    def on_prepared(self, worker: Worker, future: Future[WorkerReport]) -> WorkerReport | None:
        """Take in that a worker is ready; returns its report the first time.

        Raises:
          EngineError: If the policy cannot be loaded or compiled.
        """
        if worker not in self.all:
            return None
        worker.preparing = False
        try:
            report = future.result()
        except RayTaskError as error:
            raise EngineError(f"Policy {worker.policy!r} cannot be used: {error.cause}") from error
        except ActorDiedError as error:
            raise EngineError(f"The worker of policy {worker.policy!r} died: {first_line(error)}") from error
        except RayError:
            return None  # The next heartbeat reports the death.
        first = worker.report is None
        worker.report = report
        return report if first else None

    def poll(self, now: float, every_s: float) -> None:
        """Request heartbeats from workers whose latest is older than `every_s` seconds."""
        for worker in self.all:
            worker.poll_if_due(self._post, "worker", now, every_s)

    def on_heartbeat(self, worker: Worker, future: Future[WorkerHeartbeat]) -> str | None:
        """Take in a heartbeat; returns a note if the process has died and Ray restarts it.

        Raises:
          EngineError: If the worker dies again and again, or for good.
        """
        if worker not in self.all:
            return None
        worker.polled, worker.heard_at = False, time.monotonic()
        try:
            heartbeat = future.result()
        except ActorDiedError as error:
            raise EngineError(f"The worker of policy {worker.policy!r} died: {first_line(error)}") from error
        except RayError as error:
            return self._died(worker, first_line(error)) if worker.alive else None
        note = None
        if worker.pid != heartbeat.process.pid:
            if worker.alive:
                note = self._died(worker, "Ray has restarted it")
            worker.pid, worker.alive = heartbeat.process.pid, True
        if not heartbeat.prepared and not worker.preparing:
            self._prepare(worker)
        if worker.steps != heartbeat.steps:
            worker.steps, worker.progressed_at = heartbeat.steps, worker.heard_at
        worker.take(heartbeat, worker.heard_at)
        if heartbeat.load.batches:
            worker.deaths = 0
        self._timeouts.learn_batch(heartbeat.load.longest_s)
        return note

    def _died(self, worker: Worker, reason: str) -> str:
        worker.deaths += 1
        worker.progressed_at = time.monotonic()
        worker.heartbeat = worker.previous = worker.steps = None
        worker.alive = False
        if worker.deaths >= DEATHS_IN_A_ROW:
            raise EngineError(
                f"The worker of policy {worker.policy!r} died {worker.deaths} times without answering a query in "
                f"between: {reason}. Check its memory, the device driver and the checkpoint."
            )
        return f"The worker of policy {worker.policy!r} died and is restarted; its queries wait: {reason}"

    def starting(self) -> str:
        """Return what workers that are not ready yet are doing, by policy; '' if all are ready."""
        doing = {
            worker.policy: (worker.heartbeat.doing if worker.heartbeat else "") or "starting a process"
            for worker in self.all
            if worker.preparing
        }
        return "; ".join(f"{policy}: {what}" for policy, what in doing.items())

    def oldest_query_s(self, policy: str) -> float:
        """Return the age of the oldest query that the workers of a policy have not answered.

        Workers answer in the order of arrival, so a query that was sent long before that one was lost. Of the last two
        heartbeats the larger age counts, because a reply may be under way; it is infinite until a worker has sent two
        as one that can answer.
        """
        ages = [0.0]
        for worker in self._by_policy.get(policy, []):
            for heartbeat in (worker.previous, worker.heartbeat):
                ready = heartbeat is not None and heartbeat.prepared
                ages.append(heartbeat.load.oldest_s if heartbeat is not None and ready else math.inf)
        return max(ages)

    def judge(self, now: float) -> list[str]:
        """Kill workers that hang, for Ray to restart them; returns a note for each."""
        notes = []
        for worker in self.all:
            reason = self._hangs(worker, now)
            if reason is not None:
                if worker.heartbeat is not None:
                    kill_process(worker.heartbeat.process)
                else:
                    ray.kill(worker.handle, no_restart=False)
                worker.polled, worker.heard_at = False, now
                notes.append(self._died(worker, reason))
        return notes

    def _hangs(self, worker: Worker, now: float) -> str | None:
        heartbeat = worker.heartbeat
        if heartbeat is None or not heartbeat.prepared:
            if now - worker.progressed_at <= self._timeouts.start_s:
                return None
            stage = f" ({heartbeat.doing})" if heartbeat is not None and heartbeat.doing else ""
            return f"it made no progress towards being ready in {self._timeouts.start_s:.0f} s{stage}"
        if heartbeat.load.running_for_s > self._timeouts.batch_s:
            return f"a batch took longer than its timeout of {self._timeouts.batch_s:.0f} s"
        if worker.silent_s(now) > self._timeouts.silence_s:
            return f"it has sent no heartbeat for {worker.silent_s(now):.0f} s"
        return None

    def keep_only(self, policies: set[str]) -> None:
        """Stop the workers of all other policies, which frees their devices."""
        for policy in self._by_policy.keys() - policies:
            for worker in self._by_policy.pop(policy):
                ray.kill(worker.handle)

    def stop(self) -> None:
        """Stop all workers."""
        self.keep_only(set())
