"""Policy workers without Ray: the real thing in this process, behind what looks like a handle of Ray's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from simloop.harness.actors.factories import Factories
from simloop.harness.actors.policy_worker import PolicyWorker
from simloop.policies.interface import BatchedPolicy


class Reference:
    """What a call of a Ray actor returns: it may be awaited, or made a future."""

    def __init__(self, future: Future[Any]):
        self._future = future

    def future(self) -> Future[Any]:
        return self._future

    def __await__(self) -> Any:
        return asyncio.wrap_future(self._future).__await__()


class RemoteLoop:
    """An event loop in a thread of its own, as an actor has one in a process of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def method(self, function: Callable[..., Coroutine[Any, Any, Any]]) -> SimpleNamespace:
        """Return a method of an actor handle, which is called by its attribute `remote`."""

        def remote(*arguments: Any) -> Reference:
            return Reference(asyncio.run_coroutine_threadsafe(function(*arguments), self._loop))

        return SimpleNamespace(remote=remote)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


class InProcessWorker:
    """Has the methods that simulators call, each with its `remote`."""

    def __init__(self, number: int, policy: BatchedPolicy, batch_size: int):
        self.worker = PolicyWorker(
            policy.spec.name, [batch_size], Factories(policy=lambda name, serving: policy)
        )
        self._loop = RemoteLoop()
        self.address = self._loop.method(self.worker.address)
        self.infer = self._loop.method(self.worker.infer)
        self._actor_id = SimpleNamespace(hex=lambda: f"worker-{number}")

    def close(self) -> None:
        if self.worker._batcher is not None:
            self.worker._batcher.close()
        self.worker._shm_server.close()
        self._loop.close()
