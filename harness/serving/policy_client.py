"""The one way to query a policy, wherever it runs.

Transports implement `PolicyClient`: shared memory (`simloop.harness.serving.shm_channel`), Ray
(`simloop.harness.actors.worker_client`) and a policy in this process (`InProcessClient`).
"""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence

from simloop.harness.rollout.latency import Reply
from simloop.harness.rollout.loop import ask_here
from simloop.policies.interface import BatchedPolicy, Query, ending_nothing


class PolicyDisconnected(ConnectionError):
    """The policy went away before it answered; the query may be sent again."""


class PolicyClient(abc.ABC):
    """Query one policy from an event loop; any number of queries may be under way at once."""

    @property
    def bytes_sent(self) -> int:
        """Bytes of images and states that were copied into shared memory so far."""
        return 0

    @abc.abstractmethod
    async def ask(self, query: Query) -> Reply:
        """Return the policy's reply.

        Raises:
          PolicyDisconnected: If the policy went away before it answered.
          Exception: Any error that the policy raised.
        """


class InProcessClient(PolicyClient):
    """Query a policy in this process, one query per call.

    Args:
      load: Loads the policy at the first query.
    """

    def __init__(self, load: Callable[[], BatchedPolicy]):
        self._load = load
        self._policy: BatchedPolicy | None = None

    async def ask(self, query: Query) -> Reply:
        """Answer, then let other tasks of the event loop run."""
        retry_s = 0.0
        if self._policy is None:
            began = time.perf_counter()
            self._policy = self._load()
            retry_s = time.perf_counter() - began
        with ending_nothing(self._policy.spec.name):
            reply = ask_here(self._policy, query)
        arrived_at = time.perf_counter()
        await asyncio.sleep(0)
        return dataclasses.replace(reply, retry_s=retry_s, arrived_at=arrived_at)


class LeastWaiting(PolicyClient):
    """Send each query to the client with the fewest queries under way."""

    def __init__(self, clients: Sequence[PolicyClient]):
        self.clients = clients
        """May be replaced while queries are under way."""
        self._waiting: Counter[PolicyClient] = Counter()

    @property
    def bytes_sent(self) -> int:
        """Bytes that all clients sent."""
        return sum(client.bytes_sent for client in self.clients)

    async def ask(self, query: Query) -> Reply:
        """Return the reply of the chosen client."""
        client = min(self.clients, key=self._waiting.__getitem__)
        self._waiting[client] += 1
        try:
            return await client.ask(query)
        finally:
            self._waiting[client] -= 1
