"""`simloop bench query`: CPU time and latency of a query without simulation and model.

One process simulates and another answers, as in a run but without Ray. CPU time hardly depends on other load, so
this can be measured on a busy machine.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import SimpleNamespace

from rich.console import Console

from simloop.harness.actors.env_actor import EnvActor
from simloop.harness.actors.factories import Factories
from simloop.harness.actors.policy_worker import PolicyWorker
from simloop.harness.actors.worker_client import Address
from simloop.harness.bench.workload import SIMULATING, Workload, overhead_ms
from simloop.harness.rollout.result import RolloutResult
from simloop.results.tables.grid import Grid
from simloop.results.tables.typesetting import to_markdown

ENVIRONMENTS = 8


@dataclass(frozen=True)
class QueryCost:
    """Cost per query; times in milliseconds."""

    simulation_cpu: float
    env_actor_cpu: float
    """Of the env actor's thread, without simulation. Threads of a software renderer are not counted."""
    worker_cpu: float
    """Of the policy worker's process, including the stub."""
    latency: float
    """Median, without rendering, device time and waiting for the device."""
    bytes_sent: float
    renders: float
    queries: int

    @property
    def share(self) -> float:
        """Fraction of the CPU time that the harness takes if the cores never wait."""
        own = self.env_actor_cpu + self.worker_cpu
        return own / (own + self.simulation_cpu)


def run(work: Workload, environments: int, seconds: float, console: Console) -> int:
    """Measure and print a Markdown table; returns the exit status."""
    cost = measure(work, environments, seconds)
    rows = (
        ("simulation: steps, resets, frames", f"{cost.simulation_cpu:.2f} ms"),
        ("harness, in the env actor", f"{cost.env_actor_cpu:.2f} ms"),
        ("harness and stub, in the policy worker", f"{cost.worker_cpu:.2f} ms"),
        ("harness, as a fraction of the cores", f"{cost.share:.1%}"),
        ("median latency of the harness", f"{cost.latency:.2f} ms"),
        ("frames rendered", f"{cost.renders:.2f}"),
        ("bytes sent", f"{cost.bytes_sent:.0f}"),
    )
    note = (
        f"{cost.queries} queries of {environments} environments in one process; "
        f"{work.suite}/{work.task_spec.name}, a query every {work.replan_steps} steps."
    )
    grid = Grid("Query", ("per query", "CPU time"), (rows,), (note,))
    console.print(to_markdown(grid), highlight=False, markup=False, soft_wrap=True)
    return 0


def measure(work: Workload, environments: int, seconds: float) -> QueryCost:
    """Play episodes in several environments at once, against a worker in another process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=_worker, args=(work, theirs), daemon=True)
    worker.start()
    try:
        return asyncio.run(_play(work, environments, seconds, ours))
    finally:
        worker.kill()
        worker.join()


async def _play(work: Workload, environments: int, seconds: float, worker: Connection) -> QueryCost:
    address: str = await asyncio.to_thread(worker.recv)
    actor = EnvActor(work.protocol, None, Factories(policy=work.load_policy))
    await actor.meet(work.stub.name, work.stub.spec(), (_Handle(Address("", address)),))
    episodes = iter(work.episodes())
    played: list[RolloutResult] = []
    until = float("inf")

    async def play_in_turn(attempt_id: int) -> None:
        while time.perf_counter() < until:
            result = await actor.play(next(episodes), attempt_id)
            if result.played is None:
                raise RuntimeError(result.error)
            played.append(result.played)

    await asyncio.gather(*(actor.play(next(episodes), i) for i in range(environments)))  # Warm-up.
    before, cpu, worker_cpu = await actor.heartbeat(), time.thread_time(), _cpu_s(worker)
    until = time.perf_counter() + seconds
    await asyncio.gather(*(play_in_turn(i) for i in range(environments)))
    after = await actor.heartbeat()
    cpu, worker_cpu = time.thread_time() - cpu, _cpu_s(worker) - worker_cpu
    queries = [query for one in played for query in one.queries]
    simulation_s = sum(after.totals[p].cpu_s - before.totals[p].cpu_s for p in SIMULATING)
    count = len(queries)
    return QueryCost(
        simulation_cpu=1e3 * simulation_s / count,
        env_actor_cpu=1e3 * (cpu - simulation_s) / count,
        worker_cpu=1e3 * worker_cpu / count,
        latency=overhead_ms(queries),
        bytes_sent=(after.bytes_sent - before.bytes_sent) / count,
        renders=sum(one.renders for one in played) / count,
        queries=count,
    )


class _Handle:
    """Stands for Ray's handle of a worker that runs in a plain process."""

    def __init__(self, address: Address):
        async def answer() -> Address:
            return address

        self.address = SimpleNamespace(remote=answer)
        self._actor_id = SimpleNamespace(hex=lambda: "worker")


def _worker(work: Workload, parent: Connection) -> None:
    async def serve() -> None:
        worker = PolicyWorker(work.stub.name, [work.batch_size], Factories(policy=work.load_policy))
        await worker.prepare()
        parent.send((await worker.address()).shm_server)
        while True:
            await asyncio.to_thread(parent.recv)
            parent.send(time.process_time())

    asyncio.run(serve())


def _cpu_s(worker: Connection) -> float:
    worker.send("cpu")
    cpu_s: float = worker.recv()
    return cpu_s
