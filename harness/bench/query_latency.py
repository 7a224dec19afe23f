"""`simloop bench query`: what one query costs beyond simulating and the model, in time on cores.

One process simulates, another answers, as in a run, but without Ray around them. Time on cores hardly depends
on what else the machine is doing, so that this can be measured where nothing else can.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import SimpleNamespace

from rich.console import Console

from simloop.harness.actors.env_actor import EnvActor
from simloop.harness.actors.policy_worker import PolicyWorker
from simloop.harness.actors.worker_client import Address
from simloop.harness.bench.workload import EngineWorkload
from simloop.harness.rollout.phase_timer import Phase
from simloop.harness.rollout.result import RolloutResult
from simloop.results.tables.grid import Grid
from simloop.results.tables.typesetting import to_markdown

ENVIRONMENTS = 8
SIMULATING: tuple[Phase, ...] = ("make", "reset", "step", "render")


@dataclass(frozen=True)
class Cost:
    """Per query, in milliseconds."""

    simulating_cpu: float
    simulator_cpu: float
    """Of the simulator's thread, beyond simulating. A software renderer has threads of its own, which are
    part of drawing."""
    worker_cpu: float
    """Of the policy worker's process, the stub's own work included."""
    latency: float
    """Median of what the parts of a query take that are neither drawing nor the device nor waiting."""
    bytes_sent: float
    """Bytes of images and states that were moved."""
    renders: float
    queries: int

    @property
    def share(self) -> float:
        """Of the time on cores, where they never wait."""
        own = self.simulator_cpu + self.worker_cpu
        return own / (own + self.simulating_cpu)


def run(work: EngineWorkload, environments: int, seconds: float, console: Console) -> int:
    """Measure and print a table of Markdown; returns the exit status."""
    cost = measure(work, environments, seconds)
    rows = (
        ("simulating: steps, resets, frames", f"{cost.simulating_cpu:.2f} ms"),
        ("harness, in the simulator's process", f"{cost.simulator_cpu:.2f} ms"),
        ("harness and stub, in the policy worker", f"{cost.worker_cpu:.2f} ms"),
        ("harness, as a share of the cores", f"{cost.share:.1%}"),
        ("latency of the harness, median", f"{cost.latency:.2f} ms"),
        ("frames drawn", f"{cost.renders:.2f}"),
        ("bytes moved", f"{cost.bytes_sent:.0f}"),
    )
    note = (
        f"{cost.queries} queries of {environments} environments in one process; {work.suite}/{work.task}, "
        f"a query every {work.replan_steps} steps."
    )
    grid = Grid("Query", ("per query", "time on cores"), (rows,), (note,))
    console.print(to_markdown(grid), highlight=False, markup=False, soft_wrap=True)
    return 0


def measure(work: EngineWorkload, environments: int, seconds: float) -> Cost:
    """Play episodes for a while, as many environments at once, against a worker in another process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=_worker, args=(work, theirs), daemon=True)
    worker.start()
    try:
        return asyncio.run(_play(work, environments, seconds, ours))
    finally:
        worker.kill()
        worker.join()


async def _play(work: EngineWorkload, environments: int, seconds: float, worker: Connection) -> Cost:
    address: str = await asyncio.to_thread(worker.recv)
    handle = _Handle(Address("", address))
    actor = EnvActor(work.protocol, None, work.sources())
    await actor.meet(work.stub.name, work.stub.spec(), (handle,))
    episodes = iter(work.plan().episodes)
    played: list[RolloutResult] = []
    until = float("inf")

    async def pull(attempt_id: int) -> None:
        while time.perf_counter() < until:
            result = await actor.play(next(episodes), attempt_id)
            if result.played is None:
                raise RuntimeError(result.error)
            played.append(result.played)

    warm_up = [actor.play(next(episodes), i) for i in range(environments)]
    await asyncio.gather(*warm_up)
    before, cpu, theirs_cpu = await actor.heartbeat(), time.thread_time(), _cpu(worker)
    until = time.perf_counter() + seconds
    await asyncio.gather(*(pull(attempt_id) for attempt_id in range(environments)))
    after, cpu, theirs_cpu = await actor.heartbeat(), time.thread_time() - cpu, _cpu(worker) - theirs_cpu
    queries = [query for one in played for query in one.queries]
    inside = sum(after.totals[p].cpu_s - before.totals[p].cpu_s for p in SIMULATING)
    count = len(queries)
    return Cost(
        simulating_cpu=1e3 * inside / count,
        simulator_cpu=1e3 * (cpu - inside) / count,
        worker_cpu=1e3 * theirs_cpu / count,
        latency=statistics.median(q.total_ms - q.render_ms - q.device_ms - q.queue_ms for q in queries),
        bytes_sent=(after.bytes_sent - before.bytes_sent) / count,
        renders=sum(one.renders for one in played) / count,
        queries=count,
    )


class _Handle:
    """What looks like Ray's handle of a worker, for a process of our own."""

    def __init__(self, address: Address):
        async def answer() -> Address:
            return address

        self.address = SimpleNamespace(remote=answer)
        self._actor_id = SimpleNamespace(hex=lambda: "worker")


def _worker(work: EngineWorkload, console: Connection) -> None:
    async def serve() -> None:
        worker = PolicyWorker(work.stub.name, [work.batch_size], work.sources())
        await worker.prepare()
        console.send((await worker.address()).shm_server)
        while True:
            await asyncio.to_thread(console.recv)
            console.send(time.process_time())

    asyncio.run(serve())


def _cpu(worker: Connection) -> float:
    worker.send("cpu")
    return worker.recv()
