"""`simloop bench engine`: how much of the machine the engine makes use of, and what it costs itself."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
from rich.console import Console

from harness.bench.lock_step import lock_step
from harness.bench.workload import Workload, policy_alone, simulators_alone
from harness.engine import Engine, Listener
from harness.figures import Figures, simulator_figures, worker_figures
from harness.phases import Phase
from harness.resources import EngineError, Resources, usable_cores
from harness.rollout import Played
from results.typesetting import Grid, to_markdown

SIMULATING: tuple[Phase, ...] = ("make", "reset", "step", "render")
WARM_UP_S = 12.0  # Until processes are there, compiled, and as many environments as are wanted.
SETTLED_S = 60.0  # At most so long is waited for the engine to find its size.
POLICY_BOUND = 3.0
"""In the second regime the policy serves this fraction of what simulators could ask."""


@dataclass(frozen=True)
class Achieved:
    """What the engine did over a while at steady state."""

    queries_per_s: float
    steps_per_s: float
    environments: int
    overhead_ms: float
    """Time of a query beyond drawing, the device and waiting for it; the median."""
    own_cpu_ms: float
    """Time on cores, per query, of all processes but for simulating: everything the harness and Ray do."""
    own_share: float
    """That as a share of what the cores of the simulators can give."""
    simulator_share: float
    device_share: float
    batch_fill: float
    renders_per_query: float


class _Reading:
    """What all processes say at one moment."""

    def __init__(self, engine: Engine):
        simulators, workers = engine.healths()
        self.simulators = {health.process.pid: health for health in simulators}
        self.workers = {health.process.pid: health for health in workers}
        self.cpu_s = _tree_cpu_s()


def measure(work: Workload, resources: Resources, seconds: float) -> Achieved:
    """Run the engine on the workload, wait until it has found its size, and measure for a while."""
    seen: list[tuple[float, Figures]] = []
    played: list[Played] = []
    listener = Listener(figures=lambda figures: seen.append((time.monotonic(), figures)))
    stub = work.stub.spec()
    first = last = None
    with Engine(
        work.protocol, {stub.name: stub}, work.bucket, resources, None, listener, work.sources()
    ) as engine:
        began = time.monotonic()
        for _, result in engine.results(work.plan().episodes):
            now = time.monotonic()
            if first is None:
                if _settled(seen, now - began):
                    first, began = _Reading(engine), now
                continue
            if result.played is not None:
                played.append(result.played)
            if now - began >= seconds:
                last = _Reading(engine)
                break
    if first is None or last is None:
        raise EngineError("The engine ended before it could be measured.")
    return _achieved(first, last, played, seen[-1][1].places)


def _settled(seen: list[tuple[float, Figures]], running_s: float) -> bool:
    """Whether the number of environments has not changed for a while, or has been changing for too long."""
    if not seen or running_s < WARM_UP_S:
        return False
    recent = {figures.places for when, figures in seen if seen[-1][0] - when < WARM_UP_S}
    return len(recent) == 1 or running_s > SETTLED_S


def _achieved(first: _Reading, last: _Reading, played: list[Played], places: int) -> Achieved:
    pairs = [(a, last.simulators[pid]) for pid, a in first.simulators.items() if pid in last.simulators]
    workers = [(a, last.workers[pid]) for pid, a in first.workers.items() if pid in last.workers]
    simulated, served = simulator_figures(pairs), worker_figures(workers)
    asked = sum(b.totals["query"].count - a.totals["query"].count for a, b in pairs)
    inside_s = sum(b.totals[p].cpu_s - a.totals[p].cpu_s for a, b in pairs for p in SIMULATING)
    wall_s = statistics.mean(b.process.clock_s - a.process.clock_s for a, b in pairs)
    own_s = max(0.0, last.cpu_s - first.cpu_s - inside_s)
    queries = [query for one in played for query in one.queries]
    return Achieved(
        queries_per_s=simulated["queries_per_s"],
        steps_per_s=simulated["steps_per_s"],
        environments=len(pairs) * places,
        overhead_ms=statistics.median(q.total_ms - q.render_ms - q.device_ms - q.queue_ms for q in queries),
        own_cpu_ms=1e3 * own_s / max(1, asked),
        own_share=own_s / wall_s / len(pairs),
        simulator_share=simulated["simulator_share"],
        device_share=served.get("device_share", 0.0),
        batch_fill=served.get("batch_fill", 0.0),
        renders_per_query=sum(one.renders for one in played) / max(1, len(queries)),
    )


def _tree_cpu_s() -> float:
    """Time on cores of this process and all that it has started, those of Ray included."""
    total = 0.0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def run(work: Workload, seconds: float, console: Console, *, compare: bool) -> int:
    """Measure everything and print it as tables of Markdown; returns the exit status."""
    cores = usable_cores()
    console.print(f"{cores} cores; {work.suite}/{work.task}, {seconds:g} s for each figure", highlight=False)
    regimes = []
    for name in ("simulators", "policy"):
        before = simulators_alone(work, cores, seconds)
        if name == "policy":
            work = work.serving(POLICY_BOUND * work.bucket / before.queries_per_s)
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
    rows = (
        ("environments", str(eight.environments)),
        ("latency of a query beyond drawing, device and queue, median", f"{eight.overhead_ms:.2f} ms"),
        ("time on cores per query of everything but simulating", f"{eight.own_cpu_ms:.2f} ms"),
        ("that as a share of the cores", f"{eight.own_share:.1%}"),
        ("frames drawn per query", f"{eight.renders_per_query:.2f}"),
    )
    return Grid("Cost", ("cost of the harness", ""), (rows,))


def _comparison_grid(work: Workload, cores: int, seconds: float) -> Grid:
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
