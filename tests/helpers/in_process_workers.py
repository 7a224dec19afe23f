"""Policy workers without Ray: the real thing in this process, behind what looks like a handle of Ray's."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from simloop.harness.actors.factories import Factories
from simloop.harness.actors.policy_worker import PolicyWorker
from simloop.policies.interface import BatchedPolicy


class _Call:
    def __init__(self, method: Any):
        self.remote = method


class InProcessWorker:
    """Has the methods that simulators call, each with its `remote`."""

    def __init__(self, number: int, policy: BatchedPolicy, batch_size: int):
        self.worker = PolicyWorker(
            policy.spec.name, [batch_size], Factories(policy=lambda name, serving: policy)
        )
        self.address = _Call(self._prepared(self.worker.address))
        self.infer = _Call(self._prepared(self.worker.infer))
        self._actor_id = SimpleNamespace(hex=lambda: f"worker-{number}")

    def _prepared(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The driver's part: a worker answers once it has been told to prepare itself."""

        async def call(*arguments: Any) -> Any:
            await self.worker.prepare()
            return await method(*arguments)

        return call

    def close(self) -> None:
        if self.worker._batcher is not None:
            self.worker._batcher.close()
