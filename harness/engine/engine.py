"""Schedule episodes over env actors and keep policy workers loaded until the plan is complete.

    EpisodeQueue ──> EnvPool ──> results        in a thread of its own, so that no env actor waits for a disk
                        │ queries
                    WorkerPool

Ray starts, places, connects and restarts the processes. The engine decides which attempt runs next and where, and
when a process that is silent or late is ended.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from simloop.harness.actors.env_actor import EpisodeResult, VideoSettings, start_env_actor
from simloop.harness.actors.factories import REGISTERED, Factories
from simloop.harness.actors.heartbeat import EnvActorHeartbeat, WorkerHeartbeat
from simloop.harness.actors.policy_worker import WorkerReport, start_policy_worker
from simloop.harness.engine.autoscaler import ASSUMED_BYTES, Autoscaler, Limits
from simloop.harness.engine.checkpoint_transfer import with_transfer
from simloop.harness.engine.env_pool import Death, EnvActorHandle, EnvPool
from simloop.harness.engine.episode_queue import Attempt, EpisodeQueue
from simloop.harness.engine.gpu_allocation import GpuAllocation
from simloop.harness.engine.processes import first_line
from simloop.harness.engine.ray_cluster import RayConnection
from simloop.harness.engine.resources import EngineError, Resources
from simloop.harness.engine.supervisor import Supervisor
from simloop.harness.engine.timeouts import Timeouts
from simloop.harness.engine.worker_pool import WorkerPool
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.protocol import Protocol
from simloop.harness.recording.engine_metrics import EngineMetrics
from simloop.policies.interface import PolicySpec
from simloop.policies.kernels import Kernels
from simloop.policies.models.inference_plan import InferencePlan

LOOK_AFTER_S = 0.5
"""Seconds between two rounds of the supervisor."""
SCALE_S = 0.1
"""Seconds between two adjustments of the pools."""
MAX_UNREAD = 256
"""Results that may wait to be read before no further episode is started."""

Event = tuple[str, Any, "Future[Any] | None"]


@dataclass(frozen=True)
class EngineCallbacks:
    """Functions called on events other than results, in the thread that reads the results."""

    ready: Callable[[WorkerReport], None] = lambda report: None
    """A policy is ready to answer queries."""
    retry: Callable[[Attempt, str], None] = lambda attempt, error: None
    """An attempt has failed with this error and is repeated."""
    note: Callable[[str], None] = lambda note: None
    """A sentence about any other event."""
    metrics: Callable[[EngineMetrics], None] = lambda metrics: None
    """Metrics of the last seconds, about twice a second."""


class Engine:
    """Ray actors of one run. As a context manager, it stops every actor at the end.

    Uses the Ray instance that this process is connected to; otherwise the cluster at `resources.ray_address`;
    otherwise starts an instance on this machine, and stops it.

    Args:
      policies: Specifications by name.
      batch_sizes: Batch sizes of the policy workers. With a single one, answers do not depend on which queries
        share a batch.
      video: Cameras to record; None for no videos.
      callbacks: Called in the thread that reads `results`.
    """

    def __init__(
        self,
        protocol: Protocol,
        policies: Mapping[str, PolicySpec],
        batch_sizes: int | Sequence[int],
        resources: Resources,
        video: VideoSettings | None,
        callbacks: EngineCallbacks | None = None,
        factories: Factories = REGISTERED,
    ):
        self._policies = policies
        self._batch_sizes = (batch_sizes,) if isinstance(batch_sizes, int) else tuple(batch_sizes)
        self._resources = resources
        self._callbacks = callbacks or EngineCallbacks()
        self._factories = factories
        self._senders: list[Any] = []
        self._ray = RayConnection(resources)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._timeouts = Timeouts(resources.timeouts)
        self._env_pool = EnvPool(
            lambda: start_env_actor(protocol, video, self._factories), self._post, self._timeouts
        )
        self._worker_pool = WorkerPool(self._start_worker, self._post, self._timeouts)
        self._gpus = GpuAllocation((), 0)
        self._queue = EpisodeQueue(())
        self._stopping = threading.Event()
        self._leaving = threading.Event()

    def __enter__(self) -> Engine:
        """Connect to Ray or start it, and size the pools.

        Raises:
          EngineError: If Ray cannot be used, or there are too few GPUs.
        """
        self._ray.open()
        for warning in self._ray.warnings():
            self._callbacks.note(warning)
        resources = self._resources
        in_workers = sum(policy.runs_in == "worker" for policy in self._policies.values())
        gpus = self._ray.gpus() if in_workers else ()
        self._gpus = GpuAllocation(gpus, in_workers, resources.gpus_per_worker, resources.workers)
        try:
            self._gpus.check()
            if resources.parsed_kernels() != Kernels() and not any(gpus):
                raise EngineError(f"--kernels {' '.join(resources.kernels)} needs a GPU; there is none.")
        except EngineError:
            self._ray.close()
            raise
        if resources.ray_address is not None:
            self._factories, self._senders = with_transfer(self._factories, self._policies)
        limits = Limits(
            env_actors=resources.env_actors or self._ray.cores(),
            env_actors_fixed=resources.env_actors is not None,
            envs_per_actor=resources.envs_per_actor,
            workers=self._gpus.max_workers if in_workers else 1,
            workers_fixed=resources.workers is not None,
            uses_workers=in_workers > 0,
        )
        self._autoscaler = Autoscaler(
            limits, None if limits.env_actors_fixed else self._ray.room(ASSUMED_BYTES)
        )
        self._supervisor = Supervisor(
            self._env_pool, self._worker_pool, self._timeouts, self._autoscaler, resources.actor_memory_gib
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every actor, also in the middle of an episode."""
        self._leaving.set()
        self._env_pool.stop()
        self._worker_pool.stop()
        for sender in self._senders:
            ray.kill(sender)
        self._ray.close()

    @property
    def metrics(self) -> EngineMetrics:
        """Metrics of the last seconds."""
        return self._supervisor.metrics

    def heartbeats(self) -> tuple[list[EnvActorHeartbeat], list[WorkerHeartbeat]]:
        """Return the latest heartbeats of env actors and policy workers."""
        env_actors = [actor.heartbeat for actor in list(self._env_pool.all) if actor.heartbeat is not None]
        return env_actors, [w.heartbeat for w in self._worker_pool.all if w.heartbeat is not None]

    def stop_starting(self) -> None:
        """Start no further episodes; those under way are still played and yielded."""
        self._stopping.set()

    def results(
        self, todo: Sequence[EpisodeSpec], *, in_order: bool = False
    ) -> Iterator[tuple[Attempt, EpisodeResult]]:
        """Play all episodes; yield each once, when it has ended or failed for the last time.

        Args:
          in_order: Whether to start episodes strictly in the given order, waiting for a policy that is not ready,
            and to start none before all results so far have been read. Otherwise later episodes of other
            policies are started meanwhile.

        Raises:
          EngineError: If a policy cannot be loaded or compiled, no env actor starts, or there are too few GPUs for
            policies that alternate.
        """
        if in_order:
            self._gpus.check_alternating()
        self._queue = EpisodeQueue(todo, in_order=in_order)
        self._stopping.clear()
        outbox: queue.Queue[tuple[Any, ...]] = queue.Queue()
        thread = threading.Thread(
            target=self._play_all, args=(outbox, 0 if in_order else MAX_UNREAD), name="engine", daemon=True
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

    # All methods below run in the engine's own thread.

    def _post(self, kind: str, tag: Any, future: Future[Any]) -> None:
        future.add_done_callback(lambda done: self._events.put((kind, tag, done)))

    def _play_all(self, outbox: queue.Queue[tuple[Any, ...]], max_unread: int) -> None:
        failure: BaseException | None = None
        try:
            episodes = len(self._queue)
            looked_after_at, scaled_at = time.monotonic(), float("-inf")
            while not self._leaving.is_set() and (len(self._queue) or self._env_pool.running):
                if self._stopping.is_set():
                    self._stopping.clear()
                    self._queue.clear()
                if time.monotonic() - scaled_at >= SCALE_S:
                    scaled_at = time.monotonic()
                    self._scale(episodes)
                if outbox.unfinished_tasks <= max_unread:
                    self._dispatch()
                self._handle_events(outbox)
                now = time.monotonic()
                if now - looked_after_at >= LOOK_AFTER_S:
                    looked_after_at = now
                    self._look_after(now, outbox)
        except BaseException as error:
            failure = error
        outbox.put(("end", failure))

    def _scale(self, episodes: int) -> None:
        """Start the policy workers and env actors that are wanted now, and stop those that are not needed."""
        playing = {attempt.spec.policy for attempt in self._env_pool.attempts()}
        waiting = list(self._queue.policies())
        self._worker_pool.keep_only({*playing, *waiting})
        wanted = set(playing)
        for policy in waiting:
            if len(wanted) > self._gpus.ahead:
                break
            wanted.add(policy)
        in_workers = [policy for policy in wanted if self._policies[policy].runs_in == "worker"]
        self._worker_pool.scale_to(in_workers, self._autoscaler.workers)
        self._env_pool.scale_to(min(self._autoscaler.env_actors, max(episodes, len(self._env_pool.all))))

    def _handle_events(self, outbox: queue.Queue[tuple[Any, ...]]) -> None:
        """Wait for an event, then handle all that have occurred."""
        try:
            events = [self._events.get(timeout=LOOK_AFTER_S)]
            while not self._events.empty():
                events.append(self._events.get_nowait())
        except queue.Empty:
            return
        for kind, tag, future in events:
            if future is None:  # A result has been read, so there may be room for another episode.
                continue
            if kind == "played":
                self._on_played(tag, future, outbox)
            elif kind == "prepared":
                if report := self._worker_pool.on_prepared(tag, future):
                    outbox.put(("ready", report))
            elif kind == "worker":
                if note := self._worker_pool.on_heartbeat(tag, future):
                    self._supervisor.replaced += 1
                    outbox.put(("note", note))
            elif death := self._env_pool.on_heartbeat(tag, future):
                self._on_death(death, outbox)

    def _on_played(self, attempt_id: int, future: Future[EpisodeResult], outbox: queue.Queue[Any]) -> None:
        actor = self._env_pool.actor_of(attempt_id)
        if actor is None:  # The actor was ended, and the attempt with it.
            return
        attempt = actor.running[attempt_id]
        try:
            result = future.result()
        except RayTaskError as error:
            result = EpisodeResult(attempt.spec, None, error=first_line(error.cause), trace=str(error))
        except RayError as error:
            self._on_death(self._env_pool.died(actor, first_line(error)), outbox)
            return
        self._env_pool.end(attempt_id)
        if result.played is not None:
            self._queue.expected.learn(attempt.spec, result.played.wall_s)
        self._settle(attempt, result, outbox)
        if result.unfit:
            self._replace(actor, result.error, outbox)
        elif actor.leaving and not actor.running:
            self._replace(actor, "as announced", outbox)

    def _settle(self, attempt: Attempt, result: EpisodeResult, outbox: queue.Queue[Any]) -> None:
        """Repeat an attempt that has failed, or hand out its result."""
        if result.played is None and attempt.number < self._resources.max_attempts:
            outbox.put(("retry", attempt, result.error))
            self._supervisor.retried += 1
            self._queue.put_back(attempt.again())
        else:
            outbox.put(("result", attempt, result))

    def _on_death(self, death: Death, outbox: queue.Queue[Any]) -> None:
        self._supervisor.replaced += 1
        outbox.put(("note", f"An env actor is replaced: {death.reason}"))
        for attempt in death.released:
            self._queue.put_back(attempt)
        for attempt in death.charged:
            error = f"The env actor died: {death.reason}"
            self._settle(attempt, EpisodeResult(attempt.spec, None, error=error), outbox)

    def _replace(self, actor: EnvActorHandle, reason: str, outbox: queue.Queue[Any]) -> None:
        if death := self._env_pool.replace(actor, reason):
            self._on_death(death, outbox)

    def _dispatch(self) -> None:
        """Start attempts on env actors with room, as far as their policies are ready."""
        envs_per_actor = self._autoscaler.envs_per_actor
        free = [actor for actor in self._env_pool.all if actor.room(envs_per_actor)]
        few = 2 * len(self._env_pool.all) * envs_per_actor
        while free:
            free.sort(key=lambda actor: len(actor.running))
            actor = free[0]
            attempt = self._next_attempt(actor, few)
            if attempt is not None:
                policy = self._policies[attempt.spec.policy]
                self._env_pool.play(actor, attempt, policy, self._worker_pool.ready(policy.name))
            if attempt is None or not actor.room(envs_per_actor):
                free.pop(0)

    def _next_attempt(self, actor: EnvActorHandle, few: int) -> Attempt | None:
        if not actor.suspects:
            return self._queue.next(self._playable, few=few)
        return actor.suspects.popleft() if self._playable(actor.suspects[0].spec.policy) else None

    def _playable(self, policy: str) -> bool:
        return self._policies[policy].runs_in == "actor" or bool(self._worker_pool.ready(policy))

    def _start_worker(self, policy: str) -> Any:
        return start_policy_worker(
            policy,
            self._batch_sizes,
            self._gpus.gpus_reserved,
            self._factories,
            InferencePlan(
                self._gpus.gpus_per_worker,
                self._resources.parsed_kernels(),
                guidance=self._factories.guidance,
            ),
        )

    def _look_after(self, now: float, outbox: queue.Queue[tuple[Any, ...]]) -> None:
        """Poll heartbeats, end processes that hang, rescale the pools, and report."""
        deaths, notes = self._supervisor.look_after(now, waiting=len(self._queue))
        for death in deaths:
            self._on_death(death, outbox)
        for note in notes:
            outbox.put(("note", note))
        if outbox.empty():
            outbox.put(("metrics", self.metrics))
