"""Hands episodes to simulators and keeps policy workers ready for them, until all are done.

    Agenda ──> Simulators ──> results        a thread of its own, so that no simulator waits for a disk
                   │  ask
                Workforce

Ray starts, places, connects and restarts the processes. What is here decides who plays what next, and
whether a process that is silent or late is still to be waited for.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.exceptions import RayError, RayTaskError

from simloop.harness.actors.env_actor import EpisodeResult, VideoSettings, start_env_actor
from simloop.harness.actors.factories import REGISTERED, Factories
from simloop.harness.actors.heartbeat import EnvActorHeartbeat, WorkerHeartbeat
from simloop.harness.actors.policy_worker import WorkerReport, start_policy_worker
from simloop.harness.engine.autoscaler import GUESS_BYTES, Autoscaler, Limits
from simloop.harness.engine.checkpoint_transfer import travelling
from simloop.harness.engine.env_pool import Death, EnvActorHandle, EnvPool, first_line
from simloop.harness.engine.episode_queue import Attempt, EpisodeQueue
from simloop.harness.engine.gpu_allocation import WorkerGpus
from simloop.harness.engine.ray_cluster import RayConnection
from simloop.harness.engine.resources import EngineError, Resources
from simloop.harness.engine.supervisor import Supervisor
from simloop.harness.engine.timeouts import Timeouts
from simloop.harness.engine.worker_pool import WorkerPool
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.protocol import Protocol
from simloop.harness.recording.engine_metrics import EngineMetrics
from simloop.policies.interface import PolicySpec
from simloop.policies.models.kernels import Kernels

POLL_S = 0.5
STAFF_S = 0.1  # Between two looks at which policies need workers.
UNREAD = 256  # Results that may wait to be written down before no other episode is begun.

Event = tuple[str, Any, "Future[Any] | None"]


@dataclass(frozen=True)
class EngineCallbacks:
    """Who wants to know what happens beside the results."""

    ready: Callable[[WorkerReport], None] = lambda report: None
    """A policy can answer."""
    retry: Callable[[Attempt, str], None] = lambda attempt, error: None
    """An attempt broke, by this error, and is made again."""
    note: Callable[[str], None] = lambda note: None
    """Something else happened, in a sentence."""
    figures: Callable[[EngineMetrics], None] = lambda figures: None
    """Twice a second, of the last two seconds or so."""


class Engine:
    """Ray actors for one run. A context manager: leaving it stops every actor.

    Uses the Ray that this process is connected to; otherwise the one at `resources.ray_address`; otherwise
    starts one on this machine, and stops it.

    Args:
      buckets: Rows of a call of a policy worker. One number alone keeps answers independent of their company.
      listener: Is called in the thread that reads `results`.
      kernels: Of policies that have been played before, and go on with the same.
    """

    def __init__(
        self,
        protocol: Protocol,
        policies: Mapping[str, PolicySpec],
        batch_sizes: int | Sequence[int],
        resources: Resources,
        video: VideoSettings | None,
        callbacks: EngineCallbacks | None = None,
        sources: Factories = REGISTERED,
        kernels: Mapping[str, Kernels] | None = None,
    ):
        self._protocol = protocol
        self._policies = policies
        self._batch_sizes = (batch_sizes,) if isinstance(batch_sizes, int) else tuple(batch_sizes)
        self._resources = resources
        self._video = video
        self._callbacks = callbacks or EngineCallbacks()
        self._sources = sources
        self._senders: list[Any] = []
        self._ray = RayConnection(resources)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._timeouts = Timeouts(resources.timeouts)
        self._env_pool = EnvPool(
            lambda: start_env_actor(protocol, video, self._sources), self._post, self._timeouts
        )
        self._worker_pool = WorkerPool(self._start_worker, self._post, self._timeouts)
        self._kernels = dict(kernels or {})
        self._gpus = WorkerGpus((), 0)
        self._queue = EpisodeQueue(())
        self._stopping = threading.Event()
        self._leaving = threading.Event()

    def __enter__(self) -> Engine:
        """Have a Ray to work with."""
        self._ray.open()
        resources = self._resources
        asked = sum(policy.runs_in == "worker" for policy in self._policies.values())
        self._gpus = WorkerGpus(
            self._ray.gpus() if asked else (),
            asked,
            resources.gpus_per_worker,
            resources.workers,
        )
        try:
            self._gpus.check()
        except EngineError:
            self._ray.close()
            raise
        self._worker_pool.settle(self._settled_kernels())
        if resources.ray_address is not None:
            self._sources, self._senders = travelling(self._sources, self._policies)
        limits = Limits(
            simulators=resources.env_actors or self._ray.cores(),
            simulators_by_hand=resources.env_actors is not None,
            places=resources.envs_per_actor,
            workers=self._gpus.most_workers if asked else 1,
            workers_by_hand=resources.workers is not None,
            asked_elsewhere=asked > 0,
            total_bytes=psutil.virtual_memory().total,
        )
        self._autoscaler = Autoscaler(
            limits, None if limits.simulators_by_hand else self._ray.room(GUESS_BYTES)
        )
        self._supervisor = Supervisor(
            self._env_pool, self._worker_pool, self._timeouts, self._autoscaler, resources.actor_memory_gib
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything, also episodes under way."""
        self._leaving.set()
        self._env_pool.stop()
        self._worker_pool.stop()
        for sender in self._senders:
            ray.kill(sender)
        self._ray.close()

    @property
    def figures(self) -> EngineMetrics:
        """The last seconds."""
        return self._supervisor.figures

    def healths(self) -> tuple[list[EnvActorHeartbeat], list[WorkerHeartbeat]]:
        """What simulators and policy workers last said of themselves."""
        simulators = [s.heartbeat for s in list(self._env_pool.all) if s.heartbeat is not None]
        return simulators, [w.heartbeat for w in self._worker_pool.all if w.heartbeat is not None]

    def stop_asking(self) -> None:
        """Start no episode any more; those under way are still played and yielded."""
        self._stopping.set()

    def results(
        self, todo: Sequence[EpisodeSpec], *, in_order: bool = False
    ) -> Iterator[tuple[Attempt, EpisodeResult]]:
        """Play all episodes; yields each once, when it is played or has failed for the last time.

        Args:
          in_order: Whether to start them strictly in their order, waiting for a policy that is not ready,
            rather than to play later episodes of others meanwhile; and none before the results so far
            have been looked at.

        Raises:
          EngineError: If a policy cannot be loaded or compiled, nothing can be simulated, or there are too few
            GPUs for policies to answer in turns.
        """
        if in_order:
            self._gpus.check_in_turns()
        self._queue = EpisodeQueue(todo, in_order=in_order)
        self._stopping.clear()
        outbox: queue.Queue[tuple[Any, ...]] = queue.Queue()
        thread = threading.Thread(
            target=self._play_all, args=(outbox, 0 if in_order else UNREAD), name="engine", daemon=True
        )
        thread.start()
        try:
            while True:
                kind, *content = outbox.get()
                if kind == "end":
                    break
                if kind == "result":
                    yield content[0], content[1]
                else:
                    getattr(self._callbacks, kind)(*content)
                outbox.task_done()
                self._events.put(("read", None, None))
        finally:
            self._leaving.set()
            thread.join()
            self._leaving.clear()
        if content[0] is not None:
            raise content[0]

    # What follows runs in the engine's own thread.

    def _post(self, kind: str, tag: Any, future: Future[Any]) -> None:
        future.add_done_callback(lambda done: self._events.put((kind, tag, done)))

    def _play_all(self, outbox: queue.Queue[tuple[Any, ...]], most_unread: int) -> None:
        failure: BaseException | None = None
        try:
            episodes = len(self._queue)
            looked, staffed = time.monotonic(), float("-inf")
            while not self._leaving.is_set() and (len(self._queue) or self._env_pool.running):
                if self._stopping.is_set():
                    self._stopping.clear()
                    self._queue.clear()
                if time.monotonic() - staffed >= STAFF_S:
                    staffed = time.monotonic()
                    self._worker_pool.keep(self._policies_needed())
                    self._worker_pool.have(self._policies_wanted(), self._autoscaler.workers)
                    self._env_pool.have(
                        min(self._autoscaler.simulators, max(episodes, len(self._env_pool.all)))
                    )
                if outbox.unfinished_tasks <= most_unread:
                    self._dispatch()
                self._take_events(outbox)
                now = time.monotonic()
                if now - looked >= POLL_S:
                    looked = now
                    self._look_after(now, outbox)
        except BaseException as error:
            failure = error
        outbox.put(("end", failure))

    def _take_events(self, outbox: queue.Queue[tuple[Any, ...]]) -> None:
        """What has happened since the last look; waits for something to happen."""
        try:
            events = [self._events.get(timeout=POLL_S)]
            while not self._events.empty():
                events.append(self._events.get_nowait())
        except queue.Empty:
            return
        for kind, tag, future in events:
            if future is None:  # Somebody has read a result: there may be room for more.
                continue
            if kind == "played":
                self._played(tag, future, outbox)
            elif kind == "prepared":
                if report := self._worker_pool.prepared(tag, future):
                    outbox.put(("ready", report))
            elif kind == "worker":
                if note := self._worker_pool.heard(tag, future):
                    self._supervisor.replaced += 1
                    outbox.put(("note", note))
            elif death := self._env_pool.heard(tag, future):
                self._bury(death, outbox)

    def _played(self, attempt_id: int, future: Future[EpisodeResult], outbox: queue.Queue[Any]) -> None:
        simulator = self._env_pool.simulator_of(attempt_id)
        if simulator is None:
            return
        try:
            result = future.result()
        except RayTaskError as error:
            _, attempt = self._env_pool.ended(attempt_id) or (None, None)
            assert attempt is not None
            result = EpisodeResult(attempt.spec, None, error=first_line(error.cause), trace=str(error))
        except RayError as error:
            self._bury(self._env_pool.died(simulator, first_line(error)), outbox)
            return
        else:
            _, attempt = self._env_pool.ended(attempt_id) or (None, None)
            assert attempt is not None
        if result.played is not None:
            self._queue.expected.learn(attempt.spec, result.played.wall_s)
        self._settle(attempt, result, outbox)
        if result.unfit:
            self._retire(simulator, result.error, outbox)
        elif simulator.leaving and not simulator.running:
            self._retire(simulator, "as announced", outbox)

    def _settle(self, attempt: Attempt, result: EpisodeResult, outbox: queue.Queue[Any]) -> None:
        """Have an attempt made again, or hand out what came of it."""
        if result.played is None and attempt.number < self._resources.max_attempts:
            outbox.put(("retry", attempt, result.error))
            self._supervisor.retried += 1
            self._queue.put_back(attempt.again())
        else:
            outbox.put(("result", attempt, result))

    def _bury(self, death: Death, outbox: queue.Queue[Any]) -> None:
        """What becomes of the attempts of a simulator that is no more."""
        self._supervisor.replaced += 1
        outbox.put(("note", f"A simulator process is replaced: {death.reason}"))
        for attempt in death.uncharged:
            self._queue.put_back(attempt)
        for attempt in death.charged:
            error = f"The simulator process died: {death.reason}"
            self._settle(attempt, EpisodeResult(attempt.spec, None, error=error), outbox)

    def _retire(self, simulator: EnvActorHandle, reason: str, outbox: queue.Queue[Any]) -> None:
        if death := self._env_pool.replace(simulator, reason):
            self._bury(death, outbox)

    def _dispatch(self) -> None:
        """Give simulators with room the next episodes whose policy can answer."""
        places = self._autoscaler.places
        free = [simulator for simulator in self._env_pool.all if simulator.room(places)]
        few = 2 * len(self._env_pool.all) * places
        while free:
            free.sort(key=lambda simulator: len(simulator.running))
            simulator = free[0]
            if simulator.alone:
                attempt: Attempt | None = simulator.alone.popleft()
                if attempt is not None and not self._playable(attempt.spec.policy):
                    simulator.alone.appendleft(attempt)
                    free.pop(0)
                    continue
            else:
                attempt = self._queue.next(self._playable, few=few)
            if attempt is None:
                free.pop(0)
                continue
            policy = self._policies[attempt.spec.policy]
            self._env_pool.play(simulator, attempt, policy, self._worker_pool.ready(policy.name))
            if not simulator.room(places):
                free.pop(0)

    def _playable(self, policy: str) -> bool:
        return self._policies[policy].runs_in == "actor" or bool(self._worker_pool.ready(policy))

    def _policies_wanted(self) -> list[str]:
        """Policies that need workers now, and those that play next."""
        wanted = {attempt.spec.policy for attempt in self._env_pool.attempts()}
        for policy in self._queue.policies():
            if len(wanted) > self._gpus.ahead:
                break
            wanted.add(policy)
        return [policy for policy in wanted if self._policies[policy].runs_in == "worker"]

    def _policies_needed(self) -> set[str]:
        return {a.spec.policy for a in self._env_pool.attempts()} | set(self._queue.policies())

    def _settled_kernels(self) -> dict[str, Kernels]:
        """Kernels by policy, as far as nobody has to choose them: said by hand, used before, or without a choice."""
        said = Kernels.from_words(self._resources.kernels)
        if not any(self._gpus.of_machines):
            if said != Kernels():
                raise EngineError(
                    f"--kernels {' '.join(self._resources.kernels)} needs a GPU; there is none."
                )
            return dict.fromkeys(self._policies, Kernels())
        settled = dict.fromkeys(self._policies, said)
        return settled if self._resources.kernels else {**settled, **self._kernels}

    def _start_worker(self, policy: str) -> Any:
        gpus = self._gpus
        return start_policy_worker(policy, self._batch_sizes, gpus.share, self._sources, gpus.per_worker)

    def _look_after(self, now: float, outbox: queue.Queue[tuple[Any, ...]]) -> None:
        """Ask how everybody is, end who hangs, and judge whether there are enough of everything."""
        deaths, notes = self._supervisor.look_after(now, waiting=len(self._queue))
        for death in deaths:
            self._bury(death, outbox)
        for note in notes:
            outbox.put(("note", note))
        if outbox.empty():
            outbox.put(("figures", self.figures))
