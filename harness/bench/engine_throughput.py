"""`simloop bench engine`: achieved fraction of the machine's capacity, and cost of the harness."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psutil
from rich.console import Console

from simloop.harness.actors.factories import Factories
from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat, WorkerHeartbeat
from simloop.harness.bench.baselines import async_vector_env, policy_alone, simulation_alone, stub_cpu_ms
from simloop.harness.bench.workload import SIMULATING, Workload, overhead_ms
from simloop.harness.engine.engine import Engine, EngineCallbacks
from simloop.harness.engine.metrics import EnvActorPairs, WorkerPairs, env_actor_metrics, worker_metrics
from simloop.harness.engine.resources import EngineError, Resources
from simloop.harness.machine import usable_cores
from simloop.harness.recording.engine_metrics import EngineMetrics, EnvActorMetrics, WorkerMetrics
from simloop.harness.rollout.result import RolloutResult
from simloop.results.tables.grid import Grid
from simloop.results.tables.typesetting import to_markdown

WARM_UP_S = 20.0
"""Until processes are running and compiled, and the autoscaler has judged twice without a change."""
MAX_WARM_UP_S = 90.0
POLICY_BOUND = 3.0
"""In the second regime the policy answers this fraction of the queries that the env actors could send."""


@dataclass(frozen=True)
class HarnessCpu:
    """CPU time in ms per query, without simulation and the policy."""

    env_actors: float
    workers: float
    driver: float
    ray: float
    """Ray's own processes."""
    share: float
    """Sum of all, as a fraction of the CPU time of the env actors' cores."""

    @property
    def total(self) -> float:
        """Sum over all processes."""
        return self.env_actors + self.workers + self.driver + self.ray


@dataclass(frozen=True)
class Achieved:
    """Measurements of an engine at steady state."""

    env_actors: EnvActorMetrics
    workers: WorkerMetrics
    environments: int
    overhead_ms: float
    """Median latency of a query without rendering, device time and waiting for the device."""
    cpu: HarnessCpu
    renders_per_query: float

    @property
    def queries_per_s(self) -> float:
        """Queries per second of all env actors."""
        return self.env_actors.queries_per_s or 0.0


@dataclass(frozen=True)
class Snapshot:
    """Heartbeats by process id, and CPU times of the processes that send none."""

    env_actors: dict[int, EnvActorHeartbeat]
    workers: dict[int, WorkerHeartbeat]
    clock_s: float
    driver_s: float
    ray_s: float

    @classmethod
    def of(cls, engine: Engine) -> Snapshot:
        """Take a snapshot of a running engine."""
        heartbeats = engine.heartbeats()
        env_actors = {heartbeat.process.pid: heartbeat for heartbeat in heartbeats[0]}
        workers = {heartbeat.process.pid: heartbeat for heartbeat in heartbeats[1]}
        return cls(env_actors, workers, time.perf_counter(), *_cpu_s(env_actors.keys() | workers.keys()))


def measure(work: Workload, resources: Resources, seconds: float) -> Achieved:
    """Run the engine on the workload until the autoscaler has settled, then measure for `seconds`."""
    seen: list[tuple[float, EngineMetrics]] = []
    played: list[RolloutResult] = []
    callbacks = EngineCallbacks(metrics=lambda metrics: seen.append((time.monotonic(), metrics)))
    stub, factories = work.stub.spec(), Factories(policy=work.load_policy)
    first = last = None
    with Engine(
        work.protocol, {stub.name: stub}, work.batch_size, resources, None, callbacks, factories
    ) as engine:
        started = time.monotonic()
        for _, result in engine.results(work.episodes()):
            now = time.monotonic()
            if first is None:
                if _settled(seen, now - started):
                    first, started = Snapshot.of(engine), now
                continue
            if result.played is not None:
                played.append(result.played)
            if now - started >= seconds:
                last = Snapshot.of(engine)
                break
    if first is None or last is None:
        raise EngineError("The engine ended before it could be measured.")
    env_actors = [(a, last.env_actors[pid]) for pid, a in first.env_actors.items() if pid in last.env_actors]
    workers = [(a, last.workers[pid]) for pid, a in first.workers.items() if pid in last.workers]
    queries = [query for one in played for query in one.queries]
    return Achieved(
        env_actor_metrics(env_actors),
        worker_metrics(workers),
        environments=len(env_actors) * seen[-1][1].places,
        overhead_ms=overhead_ms(queries),
        cpu=harness_cpu(first, last, env_actors, workers, stub_cpu_ms(work)),
        renders_per_query=sum(one.renders for one in played) / max(1, len(queries)),
    )


def _settled(seen: list[tuple[float, EngineMetrics]], running_s: float) -> bool:
    """Whether the number of environments has been constant for a while, or has not settled in time."""
    if not seen or running_s < WARM_UP_S:
        return False
    recent = {metrics.places for when, metrics in seen if seen[-1][0] - when < WARM_UP_S}
    return len(recent) == 1 or running_s > MAX_WARM_UP_S


def harness_cpu(
    first: Snapshot, last: Snapshot, env_actors: EnvActorPairs, workers: WorkerPairs, stub_ms: float
) -> HarnessCpu:
    """Return the CPU time of the harness between two snapshots.

    Each process is measured in cores, over the time between its own two heartbeats.
    """
    simulating = sum(_simulating(a, b) for a, b in env_actors)
    actor_cores = sum(_cores(a.process, b.process) for a, b in env_actors) - simulating
    worker_cores = sum(_cores(a.process, b.process) for a, b in workers)
    wall_s = last.clock_s - first.clock_s
    driver_cores, ray_cores = (last.driver_s - first.driver_s) / wall_s, (last.ray_s - first.ray_s) / wall_s
    per_query = 1e3 / max(env_actor_metrics(env_actors).queries_per_s or 0.0, 1e-9)
    worker_ms = max(0.0, worker_cores * per_query - stub_ms)
    all_cores = actor_cores + driver_cores + ray_cores + worker_ms / per_query
    return HarnessCpu(
        actor_cores * per_query,
        worker_ms,
        driver_cores * per_query,
        ray_cores * per_query,
        all_cores / len(env_actors),
    )


def _cores(before: ProcessHeartbeat, now: ProcessHeartbeat) -> float:
    return (now.cpu_s - before.cpu_s) / (now.clock_s - before.clock_s)


def _simulating(before: EnvActorHeartbeat, now: EnvActorHeartbeat) -> float:
    cpu_s = sum(now.totals[phase].cpu_s - before.totals[phase].cpu_s for phase in SIMULATING)
    return cpu_s / (now.process.clock_s - before.process.clock_s)


def _cpu_s(excluded: Collection[int]) -> tuple[float, float]:
    """Return the CPU times of this process, and of all its descendants except some."""
    me = psutil.Process()
    descendants = 0.0
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.pid not in excluded:
                times = process.cpu_times()
                descendants += times.user + times.system
    own = me.cpu_times()
    return own.user + own.system, descendants


def run(work: Workload, seconds: float, console: Console, *, compare: bool) -> int:
    """Measure everything and print Markdown tables; returns the exit status."""
    cores = usable_cores()
    console.print(
        f"{cores} cores; {work.suite}/{work.task_spec.name}, {seconds:g} s per measurement", highlight=False
    )
    regimes = []
    for name in ("simulation", "policy"):
        before = simulation_alone(work, cores, seconds)
        if name == "policy":
            work = work.with_service(POLICY_BOUND * work.batch_size / before)
        policy = policy_alone(work, min(seconds, 5.0))
        achieved = measure(work, Resources(), seconds)
        simulation = (before + simulation_alone(work, cores, seconds)) / 2
        regimes.append((name, simulation, policy, achieved))
        console.print(f"{name}-bound: {achieved}", highlight=False, soft_wrap=True)
    _print(console, _capacity_grid(regimes))
    eight = measure(work.with_service(0.0), Resources(envs_per_actor=max(1, 8 // cores)), seconds)
    _print(console, _cost_grid(eight))
    if compare:
        _print(console, _comparison_grid(work.with_service(0.02), cores, seconds))
    return 0


def _capacity_grid(regimes: Sequence[tuple[str, float, float, Achieved]]) -> Grid:
    rows = [
        (
            name,
            f"{simulation:.1f}",
            f"{policy:.1f}",
            f"{achieved.queries_per_s:.1f}",
            f"{achieved.queries_per_s / min(simulation, policy):.3f}",
            str(achieved.environments),
            f"{achieved.env_actors.simulator_share or 0.0:.0%}",
            f"{achieved.workers.device_share or 0.0:.0%}",
            f"{achieved.workers.batch_fill or 0.0:.0%}",
        )
        for name, simulation, policy, achieved in regimes
    ]
    header = (
        "bound by", "simulation alone", "policy alone", "achieved", "ratio", "environments", "env actors busy",
        "policy busy", "batch fill",
    )  # fmt: skip
    return Grid(
        "Capacity", header, (tuple(rows),), ("Queries per second; all pool sizes chosen by the autoscaler.",)
    )


def _cost_grid(eight: Achieved) -> Grid:
    cpu = eight.cpu
    rows = (
        ("environments", str(eight.environments)),
        ("median latency of a query without rendering, device and queue", f"{eight.overhead_ms:.2f} ms"),
        ("CPU time per query without simulation and policy", f"{cpu.total:.2f} ms"),
        ("as a fraction of the cores", f"{cpu.share:.1%}"),
        ("of which in env actors", f"{cpu.env_actors:.2f} ms"),
        ("of which in policy workers", f"{cpu.workers:.2f} ms"),
        ("of which in the driver", f"{cpu.driver:.2f} ms"),
        ("of which in Ray's own processes", f"{cpu.ray:.2f} ms"),
        ("frames rendered per query", f"{eight.renders_per_query:.2f}"),
    )
    return Grid("Cost", ("cost of the harness", ""), (rows,))


def _comparison_grid(work: Workload, cores: int, seconds: float) -> Grid:
    rows = []
    for images in (True, False):
        chosen = dataclasses.replace(work, images=images)
        for environments in (2, 8):
            theirs = async_vector_env(chosen, environments, seconds)
            fixed = Resources(
                env_actors=min(cores, environments), envs_per_actor=max(1, environments // cores)
            )
            ours = measure(chosen, fixed, seconds).env_actors.steps_per_s or 0.0
            cells = (str(environments), f"{theirs:.0f}", f"{ours:.0f}", f"{ours / theirs:.2f}")
            rows.append(("two cameras" if images else "none", *cells))
    header = ("images", "environments", "AsyncVectorEnv", "engine", "ratio")
    note = "Environment steps per second, with the same stub policy."
    return Grid("AsyncVectorEnv", header, (tuple(rows),), (note,), 2)


def _print(console: Console, grid: Grid) -> None:
    console.print(to_markdown(grid), highlight=False, markup=False, soft_wrap=True)
