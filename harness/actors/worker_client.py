"""Client of a policy worker that is a Ray actor: picks the transport, and reconnects after a restart."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError

from simloop.harness.rollout.latency import Reply
from simloop.harness.serving.policy_client import PolicyClient, PolicyDisconnected
from simloop.harness.serving.shm_channel import ShmChannel
from simloop.policies.interface import Query

MAX_SENDS = 5  # A query that brought down so many workers is not sent again.
RECONNECT_S = 0.2  # Between two attempts to reach a worker that is being restarted.


@dataclass(frozen=True)
class Address:
    """Where a policy worker can be reached."""

    node: str
    """Ray's id of its node."""
    shm_server: str
    """Address of its `simloop.harness.serving.shm_server.ShmServer`, for processes of the same node."""


def this_node() -> str:
    """Return Ray's id of this process's node; empty without Ray."""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


class WorkerLost(RuntimeError):
    """A policy worker died for good."""


class RayClient(PolicyClient):
    """Query a policy worker by calls of its Ray actor, from any node."""

    def __init__(self, worker: Any):
        self._worker = worker

    async def ask(self, query: Query) -> Reply:
        """Return the worker's reply. Raises as `PolicyClient.ask` does."""
        future, arrived_at = self._worker.infer.remote(query).future(), []
        # Ray completes the future in a thread of its own, while this one may be simulating.
        future.add_done_callback(lambda _: arrived_at.append(time.perf_counter()))
        try:
            reply: Reply = await asyncio.wrap_future(future)
            return dataclasses.replace(reply, arrived_at=arrived_at[0])
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError as error:
            raise PolicyDisconnected(str(error)) from error


class WorkerClient(PolicyClient):
    """Query a policy worker through shared memory on its own node, through Ray on others.

    Ray restarts a worker that dies; its queries are sent again.
    """

    def __init__(self, worker: Any):
        self._worker = worker
        self._transport: PolicyClient | None = None
        self._connecting = asyncio.Lock()
        self._bytes_sent_before = 0
        self.without_shared_memory = ""
        """Why queries to a worker of the same node go through Ray; empty if they do not."""

    @property
    def bytes_sent(self) -> int:
        """Bytes sent over this connection and all previous ones."""
        return self._bytes_sent_before + (self._transport.bytes_sent if self._transport else 0)

    async def ask(self, query: Query) -> Reply:
        """Return the worker's reply. Raises what the policy raised.

        Raises:
          WorkerLost: If the worker is not restarted, or died `MAX_SENDS` times before it answered.
        """
        began, retry_s = time.perf_counter(), 0.0
        for _ in range(MAX_SENDS):
            transport = self._transport
            try:
                if transport is None:
                    transport = await self._connected(query)
                    retry_s = time.perf_counter() - began
                reply = await transport.ask(query)
                return dataclasses.replace(reply, retry_s=reply.retry_s + retry_s)
            except PolicyDisconnected:
                self._disconnect(transport)
                retry_s = time.perf_counter() - began
        raise WorkerLost(f"The policy worker died before it answered, {MAX_SENDS} times in a row.")

    async def _connected(self, query: Query) -> PolicyClient:
        async with self._connecting:
            if self._transport is None:
                self._transport = await self._connect(query)
            return self._transport

    async def _connect(self, query: Query) -> PolicyClient:
        address = await self._address()
        if address.node == this_node():
            try:
                return await ShmChannel.open(address.shm_server, query)
            except ConnectionError as error:  # It has died since.
                raise PolicyDisconnected(str(error)) from error
            except OSError as error:  # Ray is slower and always works.
                self.without_shared_memory = str(error) or type(error).__name__
        return RayClient(self._worker)

    async def _address(self) -> Address:
        """Return where the worker is, as soon as it can answer."""
        while True:
            try:
                return await self._worker.address.remote()
            except ActorDiedError as error:
                raise WorkerLost(f"The policy worker died and is not restarted: {error}") from error
            except (ActorUnavailableError, RayActorError):
                await asyncio.sleep(RECONNECT_S)
            except RayTaskError as error:
                raise WorkerLost(f"The policy worker could not be restarted: {error.cause}") from error

    def _disconnect(self, transport: PolicyClient | None) -> None:
        """Forget a transport that failed, unless another query has done so."""
        if transport is not None and transport is self._transport:
            self._bytes_sent_before += transport.bytes_sent
            self._transport = None
