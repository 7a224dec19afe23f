"""The Ray actor that answers queries of one policy: a thin shell around the batcher."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from simloop.harness.actors.factories import Factories
from simloop.harness.actors.heartbeat import WorkerHeartbeat, process_heartbeat
from simloop.harness.actors.worker_client import Address, this_node
from simloop.harness.rollout.latency import Reply
from simloop.harness.serving.batch_sizes import choose
from simloop.harness.serving.batcher import Answering, Done, WorkerLoad
from simloop.harness.serving.concurrent_calls import answering
from simloop.harness.serving.shm_server import ShmServer
from simloop.policies.interface import (
    BatchedPolicy,
    CompilationProgress,
    PolicySpec,
    Query,
    ending_nothing,
)
from simloop.policies.kernels import Kernels
from simloop.policies.models.inference_plan import InferencePlan


@dataclass(frozen=True)
class WorkerReport:
    """Report of a policy worker that is ready to answer."""

    spec: PolicySpec
    load_s: float
    compile_s: float
    device: str
    fingerprint: dict[str, str]
    batch_sizes: tuple[int, ...]
    """Batch sizes of its calls: that of the experiment, or those chosen by measurement."""
    kernels: Kernels | None = None
    """Implementations of the operations that libraries have kernels for; None if the policy has none of them."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of libraries that change the answers."""


class PolicyWorker:
    """Answer batches of queries from any number of env actors with one policy."""

    def __init__(
        self,
        name: str,
        batch_sizes: Sequence[int],
        factories: Factories,
        plan: InferencePlan | None = None,
    ):
        self._name = name
        self._plan = plan
        self._batch_sizes = tuple(batch_sizes)
        self._factories = factories
        self._policy: BatchedPolicy | None = None
        # Two workers share a GPU while one policy takes over from another; neither may take all its memory.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        self._batcher: Answering | None = None
        self._shm_server = ShmServer(self._put)
        self._preparing: asyncio.Future[WorkerReport] | None = None
        self._prepared = False
        self._stage: tuple[str, float] | None = None
        """The present step of preparation, and when it began."""
        self._steps = 0

    async def prepare(self) -> WorkerReport:
        """Load, compile and warm up the policy, once; raises what loading raises."""
        if self._preparing is None:
            self._preparing = asyncio.ensure_future(self._prepare())
        return await asyncio.shield(self._preparing)

    async def _prepare(self) -> WorkerReport:
        self._shm_server.open()
        report = await asyncio.to_thread(self._load)
        self._prepared = True
        return report

    def _load(self) -> WorkerReport:
        with ending_nothing(self._name):
            return self._load_and_compile()

    def _load_and_compile(self) -> WorkerReport:
        started = time.perf_counter()
        self._now("loading weights", started)
        policy = self._factories.policy(self._name, self._plan)
        load_s = time.perf_counter() - started
        self._now("compiling", time.perf_counter())
        batch_sizes, compile_s = choose(policy, self._batch_sizes, on_progress=self._on_progress)
        self._now("computing fingerprints", time.perf_counter())
        self._policy = policy
        self._batcher = answering(policy, batch_sizes)
        return WorkerReport(
            policy.spec,
            load_s,
            compile_s,
            policy.device(),
            policy.identity(),
            batch_sizes,
            policy.kernels(),
            policy.settings(),
        )

    def _on_progress(self, preparation: CompilationProgress) -> None:
        self._now(str(preparation), time.perf_counter() - preparation.seconds)

    def _now(self, doing: str, since: float) -> None:
        self._stage = (doing, since)
        self._steps += 1

    async def address(self) -> Address:
        """Return where this worker can be reached, as soon as it can answer."""
        await self.prepare()
        return Address(this_node(), self._shm_server.address)

    async def infer(self, query: Query) -> Reply:
        """Answer one query that arrived by Ray."""
        retry_s = 0.0
        if not self._prepared:  # The process was restarted after the query was sent.
            began = time.perf_counter()
            await self.prepare()
            retry_s = time.perf_counter() - began
        assert self._batcher is not None
        return dataclasses.replace(await self._batcher.ask(query), retry_s=retry_s)

    def _put(self, query: Query, done: Done, waited_s: float) -> None:
        """Answer a query that arrived through shared memory; the address is given out after preparation only."""
        assert self._batcher is not None
        self._batcher.put(query, done, encode_here=True, waited_s=waited_s)

    @ray.method(concurrency_group="health")
    async def heartbeat(self) -> WorkerHeartbeat:
        """Report what the process is doing."""
        load = self._batcher.load() if self._batcher else WorkerLoad()
        doing = ""
        if not self._prepared and self._stage is not None:
            what, since = self._stage
            doing = f"{what}, {time.perf_counter() - since:.0f} s"
        return WorkerHeartbeat(process_heartbeat(this_node()), self._prepared, load, doing, self._steps)


def start_policy_worker(
    name: str, batch_sizes: Sequence[int], num_gpus: float, factories: Factories, plan: InferencePlan
) -> Any:
    """Start a policy worker and return its Ray handle. It reserves no core, because env actors do.

    Ray restarts the process when it dies.
    """
    options = {"num_cpus": 0, "num_gpus": num_gpus, "max_restarts": -1, "max_concurrency": 10_000}
    actor = ray.remote(concurrency_groups={"health": 1})(PolicyWorker)
    return actor.options(**options).remote(name, tuple(batch_sizes), factories, plan)
