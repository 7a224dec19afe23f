"""The policy workers of a run: started ahead, watched, started again, and stopped when nobody needs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from simloop.harness.actors.heartbeat import WorkerHeartbeat
from simloop.harness.actors.policy_worker import WorkerReport
from simloop.harness.engine.env_pool import Post, first_line, kill_process
from simloop.harness.engine.resources import EngineError
from simloop.harness.engine.timeouts import Timeouts
from simloop.policies.models.kernels import Kernels

DEATHS_IN_A_ROW = 5  # Without a single answer between them: starting it again will not help.


@dataclass(eq=False)
class Worker:
    """One policy worker. Ray starts its process again when that dies; this stays the same."""

    policy: str
    handle: Any
    since: float
    """When its present process was asked for."""
    advanced: float = 0.0
    """When it last came a step further towards being ready."""
    report: WorkerReport | None = None
    heartbeat: WorkerHeartbeat | None = None
    before: WorkerHeartbeat | None = None
    asked: float | None = None
    heard: float = 0.0
    preparing: bool = False
    pid: int | None = None
    alive: bool = False
    """Whether its present process has shown that it lives."""
    deaths: int = 0
    """In a row, without an answer between them."""


class WorkerPool:
    """Workers by policy."""

    def __init__(self, start: Callable[[str], Any], post: Post, timeouts: Timeouts):
        self._start = start
        self._kernels: dict[str, Kernels] = {}
        self._post = post
        self._timeouts = timeouts
        self._by_policy: dict[str, list[Worker]] = {}

    def settle(self, kernels: Mapping[str, Kernels]) -> None:
        """Say which kernels policies are to use; a first worker chooses those of the others."""
        self._kernels.update(kernels)

    @property
    def all(self) -> list[Worker]:
        """Every worker."""
        return [worker for workers in self._by_policy.values() for worker in workers]

    def have(self, policies: Iterable[str], count: int) -> None:
        """Start as many workers of each of these policies as are missing."""
        for policy in policies:
            workers = self._by_policy.setdefault(policy, [])
            while len(workers) < count:
                now = time.monotonic()
                workers.append(Worker(policy, self._start(policy), now, heard=now))
                self._prepare(workers[-1])

    def _prepare(self, worker: Worker) -> None:
        """Have a worker prepare itself; the first of a policy chooses kernels, and the others wait for its choice."""
        kernels = self._kernels.get(worker.policy)
        if kernels is None and any(other.preparing for other in self._by_policy[worker.policy]):
            worker.since = worker.advanced = time.monotonic()
            return
        worker.preparing = True
        self._post("prepared", worker, worker.handle.prepare.remote(kernels).future())

    def ready(self, policy: str) -> tuple[Any, ...]:
        """Handles of a policy's workers that can answer; queries wait at one that is being started again."""
        workers = self._by_policy.get(policy, [])
        return tuple(worker.handle for worker in workers if worker.report is not None)

    def prepared(self, worker: Worker, future: Future[WorkerReport]) -> WorkerReport | None:
        """Take in that a worker can answer; its report, the first time.

        Raises:
          EngineError: If it cannot.
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
            return None  # `heard` tells of its death.
        first = worker.report is None
        worker.report = report
        if report.kernels is not None:
            self._kernels.setdefault(worker.policy, report.kernels)
        return report if first else None

    def ask_all(self, now: float, every_s: float) -> None:
        """Ask those after their health that have not been asked for a while."""
        for worker in self.all:
            if worker.asked is None and now - worker.heard >= every_s:
                worker.asked = now
                self._post("worker", worker, worker.handle.heartbeat.remote().future())

    def heard(self, worker: Worker, future: Future[WorkerHeartbeat]) -> str | None:
        """Take in what a worker says of itself; a sentence if it has died, which Ray mends.

        Raises:
          EngineError: If it dies again and again, or for good.
        """
        if worker not in self.all:
            return None
        worker.asked, worker.heard = None, time.monotonic()
        try:
            heartbeat = future.result()
        except ActorDiedError as error:
            raise EngineError(f"The worker of policy {worker.policy!r} died: {first_line(error)}") from error
        except RayError as error:
            return self._died(worker, first_line(error)) if worker.alive else None
        note = None
        if worker.pid != heartbeat.process.pid:
            if worker.alive:
                note = self._died(worker, "Ray has started it again")
            worker.pid, worker.alive = heartbeat.process.pid, True
        if not heartbeat.prepared and not worker.preparing:
            self._prepare(worker)
        if worker.heartbeat is None or worker.heartbeat.steps != heartbeat.steps:
            worker.advanced = worker.heard
        worker.before, worker.heartbeat = worker.heartbeat, heartbeat
        if heartbeat.load.batches:
            worker.deaths = 0
        self._timeouts.learn_call(heartbeat.load.longest_s)
        return note

    def _died(self, worker: Worker, reason: str) -> str:
        worker.deaths += 1
        worker.since = time.monotonic()
        worker.heartbeat = worker.before = None
        worker.alive = False
        if worker.deaths >= DEATHS_IN_A_ROW:
            raise EngineError(
                f"The worker of policy {worker.policy!r} died {worker.deaths} times without an answer between: "
                f"{reason}. Look for what ends it: memory, the driver of the device, the checkpoint."
            )
        return f"The worker of policy {worker.policy!r} died and is started again; its queries wait: {reason}"

    def starting(self) -> str:
        """What those do that cannot answer yet, by policy; '' where there are none."""
        doing = {
            worker.policy: (worker.heartbeat.doing if worker.heartbeat else "") or "starting a process"
            for worker in self.all
            if worker.preparing
        }
        return "; ".join(f"{policy}: {what}" for policy, what in doing.items())

    def idle(self) -> bool:
        """Whether every worker can answer and has nothing to answer."""
        healths = [worker.heartbeat for worker in self.all]
        return all(h and h.prepared and not h.load.waiting and not h.load.running_for_s for h in healths)

    def judge(self, now: float) -> list[str]:
        """End those that hang, for Ray to start them again; a sentence for each."""
        notes = []
        for worker in self.all:
            reason = self._hangs(worker, now)
            if reason is not None:
                if worker.heartbeat is not None:
                    kill_process(worker.heartbeat.process)
                else:
                    ray.kill(worker.handle, no_restart=False)
                worker.asked, worker.heard = None, now
                notes.append(self._died(worker, reason))
        return notes

    def _hangs(self, worker: Worker, now: float) -> str | None:
        unheard_s = now - worker.heard
        if worker.heartbeat is None or not worker.heartbeat.prepared:
            if now - max(worker.since, worker.advanced) <= self._timeouts.start_s:
                return None
            stage = (
                ""
                if worker.heartbeat is None or not worker.heartbeat.doing
                else f" ({worker.heartbeat.doing})"
            )
            return f"it came no further towards being ready in {self._timeouts.start_s:.0f} s{stage}"
        if worker.heartbeat.load.running_for_s > self._timeouts.call_s:
            return f"a call took longer than its deadline of {self._timeouts.call_s:.0f} s"
        if worker.asked is not None and unheard_s > self._timeouts.silence_s:
            return f"it has not answered for {unheard_s:.0f} s"
        return None

    def keep(self, needed: set[str]) -> None:
        """Stop the workers of all other policies, which frees their devices."""
        for policy in self._by_policy.keys() - needed:
            for worker in self._by_policy.pop(policy):
                ray.kill(worker.handle)

    def stop(self) -> None:
        """Stop all."""
        self.keep(set())
