"""Hands episodes to simulator actors and keeps policy workers ready for them, until all are done."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from harness.actors import (
    REGISTERED,
    EpisodeResult,
    Sources,
    VideoSettings,
    WorkerReport,
    start_env_actor,
    start_policy_worker,
)
from harness.errors import SimloopError
from harness.plan import EpisodeSpec
from harness.protocol import Protocol
from policies.interface import PolicySpec

MAX_ATTEMPTS = 2  # A fault that comes back is not a passing one; it is recorded as an error.
WORKERS_AHEAD = 1  # While one policy plays, the next compiles; more would compete for memory.
OBJECT_STORE_BYTES = (
    256 * 2**20
)  # Queries and videos pass through one at a time; the default takes 30 % of RAM.
POLL_S = 0.5


class EngineError(SimloopError):
    """Something without which no episode of a policy can be played."""


@dataclass(frozen=True)
class Resources:
    """What a run may use. Nothing here changes its results."""

    env_actors: int | None = None
    """Simulators running at once; None for one per core."""

    def __post_init__(self) -> None:
        """Refuse counts that cannot run."""
        if self.env_actors is not None and self.env_actors < 1:
            raise EngineError(f"--env-actors must be at least 1; got {self.env_actors}.")


@dataclass(frozen=True)
class Attempt:
    """One try at an episode."""

    spec: EpisodeSpec
    number: int = 1


@dataclass
class _Worker:
    handle: Any
    ready: Any
    """Reference to the report, until it has come."""
    report: WorkerReport | None = None


class Engine:
    """Ray actors for one run. A context manager: leaving it stops every actor.

    Uses the Ray that this process is connected to; otherwise starts one on this machine, and stops it.
    """

    def __init__(
        self,
        protocol: Protocol,
        policies: Mapping[str, PolicySpec],
        bucket: int,
        resources: Resources,
        video: VideoSettings | None,
        on_ready: Callable[[WorkerReport], None] = lambda report: None,
        on_retry: Callable[[Attempt, str], None] = lambda attempt, error: None,
        sources: Sources = REGISTERED,
    ):
        self._protocol = protocol
        self._policies = policies
        self._bucket = bucket
        self._resources = resources
        self._video = video
        self._on_ready = on_ready
        self._on_retry = on_retry
        self._sources = sources
        self._own_ray = False
        self._actors: list[Any] = []
        self._workers: dict[str, _Worker] = {}
        self._pending: deque[Attempt] = deque()
        self._running: dict[Any, tuple[Any, Attempt]] = {}

    def __enter__(self) -> Engine:
        """Have a Ray to work with."""
        if ray.is_initialized():
            return self
        os.environ.setdefault(
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0"
        )  # Or Ray builds a new venv for its workers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=max(self.env_actors, psutil.cpu_count() or 1),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        self._own_ray = True
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything, also episodes under way."""
        for actor in [*self._actors, *(worker.handle for worker in self._workers.values())]:
            ray.kill(actor)
        if self._own_ray:
            ray.shutdown()

    @property
    def env_actors(self) -> int:
        """How many simulators run at once."""
        return self._resources.env_actors or psutil.cpu_count() or 1

    def stop_asking(self) -> None:
        """Start no episode any more; those under way are still played and yielded."""
        self._pending.clear()

    def results(
        self, todo: Sequence[EpisodeSpec], *, in_order: bool = False
    ) -> Iterator[tuple[Attempt, EpisodeResult]]:
        """Play all episodes; yields each once, when it is played or has failed for the last time.

        Args:
          in_order: Whether to start them strictly in their order, waiting for a policy that is not ready,
            rather than to play later episodes of others meanwhile.

        Raises:
          EngineError: If a policy cannot be loaded or compiled.
        """
        self._pending = deque(Attempt(spec) for spec in todo)
        count = min(self.env_actors, len(todo))
        self._actors = [self._start_env_actor() for _ in range(count)]
        idle = list(self._actors)
        while self._pending or self._running:
            self._start_workers()
            self._dispatch(idle, in_order)
            starting = [worker.ready for worker in self._workers.values() if worker.report is None]
            done, _ = ray.wait([*self._running, *starting], num_returns=1, timeout=POLL_S)
            for reference in done:
                if reference not in self._running:
                    self._welcome(reference)
                    continue
                actor, attempt = self._running.pop(reference)
                try:
                    result = ray.get(reference)
                except RayActorError as error:
                    self._actors.remove(actor)
                    actor = self._start_env_actor()
                    self._actors.append(actor)
                    result = EpisodeResult(
                        attempt.spec, None, error=f"The simulator process died: {_first_line(error)}"
                    )
                idle.append(actor)
                if result.played is None and attempt.number < MAX_ATTEMPTS:
                    self._on_retry(attempt, result.error)
                    self._pending.appendleft(Attempt(attempt.spec, attempt.number + 1))
                else:
                    yield attempt, result
            self._stop_workers()

    def _start_env_actor(self) -> Any:
        return start_env_actor(self._protocol, self._video, self._sources)

    def _start_workers(self) -> None:
        """Have workers for the policies that play now and for those that play next."""
        wanted: dict[str, None] = {}
        for attempt in [*(attempt for _, attempt in self._running.values()), *self._pending]:
            name = attempt.spec.policy
            if self._policies[name].runs_in == "worker":
                wanted[name] = None
            if len(wanted) > WORKERS_AHEAD:
                break
        for name in wanted:
            if name not in self._workers:
                gpus = ray.cluster_resources().get("GPU", 0)
                share = 0.0 if gpus == 0 else 1.0 if gpus > WORKERS_AHEAD else 1 / (1 + WORKERS_AHEAD)
                handle = start_policy_worker(name, self._bucket, share, self._sources)
                self._workers[name] = _Worker(handle, handle.prepare.remote())

    def _welcome(self, reference: Any) -> None:
        """Note that a policy can answer now."""
        name, worker = next((n, w) for n, w in self._workers.items() if w.ready == reference)
        try:
            worker.report = ray.get(reference)
        except RayTaskError as error:
            raise EngineError(f"Policy {name!r} cannot be used: {error.cause}") from error
        except RayError as error:
            raise EngineError(
                f"The worker of policy {name!r} died while starting: {_first_line(error)}"
            ) from error
        self._on_ready(worker.report)

    def _dispatch(self, idle: list[Any], in_order: bool) -> None:
        """Give idle simulators the first episodes whose policy can answer."""
        blocked: list[Attempt] = []
        while idle and self._pending:
            attempt = self._pending.popleft()
            policy = self._policies[attempt.spec.policy]
            worker = self._workers.get(attempt.spec.policy)
            if policy.runs_in == "worker" and (worker is None or worker.report is None):
                blocked.append(attempt)
                if in_order:
                    break
                continue
            actor = idle.pop()
            reference = actor.play.remote(attempt.spec, policy, worker.handle if worker else None)
            self._running[reference] = (actor, attempt)
        self._pending.extendleft(reversed(blocked))

    def _stop_workers(self) -> None:
        """Free the devices of policies that have no episode left."""
        needed = {attempt.spec.policy for _, attempt in self._running.values()}
        needed |= {attempt.spec.policy for attempt in self._pending}
        for name in self._workers.keys() - needed:
            ray.kill(self._workers.pop(name).handle)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
