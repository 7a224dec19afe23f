"""`simloop bench engine`: how much of the machine the engine makes use of, and what it costs itself."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psutil
from rich.console import Console

from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat, WorkerHeartbeat
from simloop.harness.bench.lock_step import lock_step
from simloop.harness.bench.workload import EngineWorkload, policy_alone, simulators_alone, stub_cpu_ms
from simloop.harness.engine.engine import Engine, EngineCallbacks
from simloop.harness.engine.metrics import EnvActorPairs, WorkerPairs, env_actor_metrics, worker_metrics
from simloop.harness.engine.resources import EngineError, Resources, usable_cores
from simloop.harness.recording.engine_metrics import EngineMetrics
from simloop.harness.rollout.phase_timer import Phase
from simloop.harness.rollout.result import RolloutResult
from simloop.results.tables.grid import Grid
from simloop.results.tables.typesetting import to_markdown

SIMULATING: tuple[Phase, ...] = ("make", "reset", "step", "render")
WARM_UP_S = 20.0  # Until processes are there and compiled, and sizes were judged twice without a change.
SETTLED_S = 90.0  # At most so long is waited for the engine to find its size.
POLICY_BOUND = 3.0
"""In the second regime the policy serves this fraction of what simulators could ask."""


@dataclass(frozen=True)
class OwnTime:
    """Time on cores, in ms per query, of everything but simulating and the policy."""

    simulators: float
    """In the processes of simulators, Ray's threads in them included."""
    workers: float
    """In those of policy workers, without what the stub itself takes."""
    driver: float
    ray: float
    """Ray's own processes."""
    share: float
    """All of it, as a share of what the cores of the simulators can give."""

    @property
    def all(self) -> float:
        """Together."""
        return self.simulators + self.workers + self.driver + self.ray


@dataclass(frozen=True)
class Achieved:
    """What the engine did over a while at steady state."""

    queries_per_s: float
    steps_per_s: float
    environments: int
    overhead_ms: float
    """Time of a query beyond drawing, the device and waiting for it; the median."""
    own: OwnTime
    simulator_share: float
    device_share: float
    batch_fill: float
    renders_per_query: float


@dataclass(frozen=True)
class _Reading:
    """What all processes say at one moment, and what the system says of those that say nothing."""

    simulators: dict[int, EnvActorHeartbeat]
    workers: dict[int, WorkerHeartbeat]
    clock_s: float
    driver_s: float
    ray_s: float

    @classmethod
    def of(cls, engine: Engine) -> _Reading:
        simulators = {heartbeat.process.pid: heartbeat for heartbeat in engine.healths()[0]}
        workers = {heartbeat.process.pid: heartbeat for heartbeat in engine.healths()[1]}
        return cls(simulators, workers, time.perf_counter(), *_cpu_s(simulators.keys() | workers.keys()))


def measure(work: EngineWorkload, resources: Resources, seconds: float) -> Achieved:
    """Run the engine on the workload, wait until it has found its size, and measure for a while."""
    seen: list[tuple[float, EngineMetrics]] = []
    played: list[RolloutResult] = []
    callbacks = EngineCallbacks(figures=lambda figures: seen.append((time.monotonic(), figures)))
    stub = work.stub.spec()
    first = last = None
    with Engine(
        work.protocol, {stub.name: stub}, work.batch_size, resources, None, callbacks, work.sources()
    ) as engine:
        began = time.monotonic()
        for _, result in engine.results(work.plan().episodes):
            now = time.monotonic()
            if first is None:
                if _settled(seen, now - began):
                    first, began = _Reading.of(engine), now
                continue
            if result.played is not None:
                played.append(result.played)
            if now - began >= seconds:
                last = _Reading.of(engine)
                break
    if first is None or last is None:
        raise EngineError("The engine ended before it could be measured.")
    return _achieved(first, last, played, seen[-1][1].places, stub_cpu_ms(work))


def _settled(seen: list[tuple[float, EngineMetrics]], running_s: float) -> bool:
    """Whether the number of environments has not changed for a while, or has been changing for too long."""
    if not seen or running_s < WARM_UP_S:
        return False
    recent = {figures.places for when, figures in seen if seen[-1][0] - when < WARM_UP_S}
    return len(recent) == 1 or running_s > SETTLED_S


def _achieved(
    first: _Reading, last: _Reading, played: list[RolloutResult], places: int, stub_ms: float
) -> Achieved:
    pairs = [(a, last.simulators[pid]) for pid, a in first.simulators.items() if pid in last.simulators]
    workers = [(a, last.workers[pid]) for pid, a in first.workers.items() if pid in last.workers]
    simulated, served = env_actor_metrics(pairs), worker_metrics(workers)
    queries = [query for one in played for query in one.queries]
    return Achieved(
        queries_per_s=simulated.queries_per_s or 0.0,
        steps_per_s=simulated.steps_per_s or 0.0,
        environments=len(pairs) * places,
        overhead_ms=statistics.median(q.total_ms - q.render_ms - q.device_ms - q.queue_ms for q in queries),
        own=_own_time(first, last, pairs, workers, simulated.queries_per_s or 0.0, stub_ms),
        simulator_share=simulated.simulator_share or 0.0,
        device_share=served.device_share or 0.0,
        batch_fill=served.batch_fill or 0.0,
        renders_per_query=sum(one.renders for one in played) / max(1, len(queries)),
    )


def _own_time(
    first: _Reading,
    last: _Reading,
    pairs: EnvActorPairs,
    workers: WorkerPairs,
    queries_per_s: float,
    stub_ms: float,
) -> OwnTime:
    """From shares of a core, each over the time between two answers of the process concerned."""
    simulators = sum(_share(a.process, b.process) - _simulating(a, b) for a, b in pairs)
    answering = sum(_share(a.process, b.process) for a, b in workers)
    wall_s = last.clock_s - first.clock_s
    driver, ray = (last.driver_s - first.driver_s) / wall_s, (last.ray_s - first.ray_s) / wall_s
    per_query = 1e3 / max(queries_per_s, 1e-9)
    own_workers = max(0.0, answering * per_query - stub_ms)
    all_ms = (simulators + driver + ray) * per_query + own_workers
    return OwnTime(
        simulators * per_query,
        own_workers,
        driver * per_query,
        ray * per_query,
        all_ms / per_query / len(pairs),
    )


def _share(before: ProcessHeartbeat, now: ProcessHeartbeat) -> float:
    return (now.cpu_s - before.cpu_s) / (now.clock_s - before.clock_s)


def _simulating(before: EnvActorHeartbeat, now: EnvActorHeartbeat) -> float:
    spent_s = sum(now.totals[phase].cpu_s - before.totals[phase].cpu_s for phase in SIMULATING)
    return spent_s / (now.process.clock_s - before.process.clock_s)


def _cpu_s(but: Collection[int]) -> tuple[float, float]:
    """Time on cores of this process, and of all that it has started except some."""
    me = psutil.Process()
    total = 0.0
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.pid not in but:
                times = process.cpu_times()
                total += times.user + times.system
    own = me.cpu_times()
    return own.user + own.system, total


def run(work: EngineWorkload, seconds: float, console: Console, *, compare: bool) -> int:
    """Measure everything and print it as tables of Markdown; returns the exit status."""
    cores = usable_cores()
    console.print(f"{cores} cores; {work.suite}/{work.task}, {seconds:g} s for each figure", highlight=False)
    regimes = []
    for name in ("simulators", "policy"):
        before = simulators_alone(work, cores, seconds)
        if name == "policy":
            work = work.serving(POLICY_BOUND * work.batch_size / before.queries_per_s)
        serves = policy_alone(work, min(seconds, 5.0))
        achieved = measure(work, Resources(), seconds)
        after = simulators_alone(work, cores, seconds)
        simulates = (before.queries_per_s + after.queries_per_s) / 2
        regimes.append((name, simulates, serves, achieved))
        console.print(f"{name} bound: {achieved}", highlight=False, soft_wrap=True)
    _print(console, _regime_grid(regimes))
    eight = measure(work.serving(0.0), Resources(envs_per_actor=max(1, 8 // cores)), seconds)
    _print(console, _cost_grid(eight))
    if compare:
        _print(console, _comparison_grid(work.serving(0.02), cores, seconds))
    return 0


def _regime_grid(regimes: Sequence[tuple[str, float, float, Achieved]]) -> Grid:
    rows = [
        (
            name,
            f"{simulates:.1f}",
            f"{serves:.1f}",
            f"{achieved.queries_per_s:.1f}",
            f"{achieved.queries_per_s / min(simulates, serves):.3f}",
            str(achieved.environments),
            f"{achieved.simulator_share:.0%}",
            f"{achieved.device_share:.0%}",
            f"{achieved.batch_fill:.0%}",
        )
        for name, simulates, serves, achieved in regimes
    ]
    header = (
        "bound by", "simulators alone", "policy alone", "achieved", "ratio", "environments", "simulators busy",
        "policy busy", "batches filled",
    )  # fmt: skip
    return Grid("Capacity", header, (tuple(rows),), ("Queries per second; nothing was set by hand.",))


def _cost_grid(eight: Achieved) -> Grid:
    own = eight.own
    rows = (
        ("environments", str(eight.environments)),
        ("latency of a query beyond drawing, device and queue, median", f"{eight.overhead_ms:.2f} ms"),
        ("time on cores per query of everything but simulating and the policy", f"{own.all:.2f} ms"),
        ("that as a share of the cores", f"{own.share:.1%}"),
        ("of it in simulators", f"{own.simulators:.2f} ms"),
        ("of it in policy workers", f"{own.workers:.2f} ms"),
        ("of it in the driver", f"{own.driver:.2f} ms"),
        ("of it in Ray's own processes", f"{own.ray:.2f} ms"),
        ("frames drawn per query", f"{eight.renders_per_query:.2f}"),
    )
    return Grid("Cost", ("cost of the harness", ""), (rows,))


def _comparison_grid(work: EngineWorkload, cores: int, seconds: float) -> Grid:
    rows = []
    for images in (True, False):
        chosen = dataclasses.replace(work, images=images)
        for environments in (2, 8):
            theirs = lock_step(chosen, environments, seconds)
            fixed = Resources(
                env_actors=min(cores, environments), envs_per_actor=max(1, environments // cores)
            )
            ours = measure(chosen, fixed, seconds).steps_per_s
            rows.append(
                (
                    "two cameras" if images else "none",
                    str(environments),
                    f"{theirs:.0f}",
                    f"{ours:.0f}",
                    f"{ours / theirs:.2f}",
                )
            )
    header = ("images", "environments", "AsyncVectorEnv", "engine", "ratio")
    return Grid(
        "Lock step", header, (tuple(rows),), ("Environment steps per second, with the same stub policy.",), 2
    )


def _print(console: Console, grid: Grid) -> None:
    console.print(to_markdown(grid), highlight=False, markup=False, soft_wrap=True)
