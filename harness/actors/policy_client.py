"""A policy worker as a simulator's process sees it: asked, and asked again when it has died and come back."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError

from simloop.harness.rollout.loop import Reply
from simloop.harness.rollout.phase_timer import PhaseTimers
from simloop.harness.serving.shm_channel import ChannelClosed, Damaged, ShmChannel
from simloop.policies.interface import Query

RESENDS = 5  # A query that brought so many workers down is not asked again.
PAUSE_S = 0.2  # Between two looks at whether a worker is back.


@dataclass(frozen=True)
class Address:
    """Where a worker can be called."""

    node: str
    shm_server: str
    """Its `simloop.harness.serving.shm_server.ShmServer`, for processes of the same machine."""


def this_node() -> str:
    """Ray's id of the machine that this process runs on; empty where there is no Ray."""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


class WorkerLost(RuntimeError):
    """A policy worker died and will not be back."""


class PolicyClient:
    """One worker. On the same machine queries travel through shared memory, else by Ray."""

    def __init__(self, worker: Any, timers: PhaseTimers):
        self._worker = worker
        self._timers = timers
        self._local: ShmChannel | None = None
        self._remote = False
        self._connecting = asyncio.Lock()
        self.waiting = 0
        """Queries of this process that have not been answered yet."""
        self._sent_before = 0

    @property
    def bytes_sent(self) -> int:
        """Of images and states through shared memory."""
        return self._sent_before + (self._local.bytes_sent if self._local else 0)

    async def ask(self, query: Query) -> Reply:
        """The reply, with what travelling took. Raises what answering raised.

        Raises:
          WorkerLost: If the worker has died for good, or at this query again and again.
        """
        self.waiting += 1
        try:
            for _ in range(RESENDS):
                try:
                    return await self._ask_once(query)
                except Damaged as error:
                    print(error)
                except (ChannelClosed, RayActorError):
                    await self._hang_up()
            raise WorkerLost(
                f"This was asked {RESENDS} times, and the policy worker died or never got it whole."
            )
        finally:
            self.waiting -= 1

    async def _ask_once(self, query: Query) -> Reply:
        await self._connect(query)
        began = time.perf_counter()
        local = self._local
        if local is None:
            try:
                reply: Reply = await self._worker.infer.remote(query)
            except RayTaskError as error:
                raise error.cause from None
            spent_s = reply.queue_s + reply.host_s + reply.device_s + reply.post_s
            return dataclasses.replace(reply, transport_s=max(0.0, time.perf_counter() - began - spent_s))
        reply, spent_s, left = await local.ask(query)
        # While the reply was on its way another environment may have been simulated by this process.
        turn_s = max(0.0, self._timers.last_busy - left)
        transport_s = time.perf_counter() - began - spent_s - turn_s
        return dataclasses.replace(reply, transport_s=max(0.0, transport_s), queue_s=reply.queue_s + turn_s)

    async def _connect(self, query: Query) -> None:
        async with self._connecting:
            if self._local is not None or self._remote:
                return
            address = await self._address()
            if address.node == this_node():
                try:
                    self._local = await ShmChannel.open(address.shm_server, query)
                    return
                except OSError as error:
                    if isinstance(error, ConnectionError):  # It died again in this moment.
                        raise ChannelClosed(str(error)) from error
                    print(f"Queries travel by Ray, shared memory cannot be used: {error}")
            self._remote = True

    async def _address(self) -> Address:
        """Where the worker is, once it can answer: Ray restarts one that died."""
        while True:
            try:
                return await self._worker.address.remote()
            except ActorDiedError as error:
                raise WorkerLost(f"The policy worker died and is not started again: {error}") from error
            except (ActorUnavailableError, RayActorError):
                await asyncio.sleep(PAUSE_S)
            except RayTaskError as error:
                raise WorkerLost(f"The policy worker could not be started again: {error.cause}") from error

    async def _hang_up(self) -> None:
        async with self._connecting:
            if self._local is not None and not self._local.alive:
                self._sent_before += self._local.bytes_sent
                self._local = None
            self._remote = False


class Workers:
    """All lines of one process, one to each worker that it has been told of."""

    def __init__(self, timers: PhaseTimers):
        self._timers = timers
        self._lines: dict[str, PolicyClient] = {}

    @property
    def bytes_sent(self) -> int:
        """Of images and states through shared memory."""
        return sum(line.bytes_sent for line in self._lines.values())

    async def ask(self, workers: tuple[Any, ...], query: Query) -> Reply:
        """Ask the one of several equal workers that this process waits for least."""
        lines = [self._line(worker) for worker in workers]
        return await min(lines, key=lambda line: line.waiting).ask(query)

    def _line(self, worker: Any) -> PolicyClient:
        key = worker._actor_id.hex()
        if key not in self._lines:
            self._lines[key] = PolicyClient(worker, self._timers)
        return self._lines[key]
