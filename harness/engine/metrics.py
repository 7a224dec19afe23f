"""How a run is doing: what its processes said of themselves, put into a few numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from simloop.harness.actors.heartbeat import EnvActorHeartbeat, WorkerHeartbeat
from simloop.harness.rollout.phase_timer import PHASES, Phase, PhaseTotals

Readings = Sequence[tuple[EnvActorHeartbeat, EnvActorHeartbeat]]
"""Two successive ones of every simulator."""
WorkerReadings = Sequence[tuple[WorkerHeartbeat, WorkerHeartbeat]]


@dataclass(frozen=True)
class EngineMetrics:
    """The engine over the last seconds. None where there is nothing to take it from."""

    simulators: int = 0
    """Processes that simulate."""
    places: int = 1
    """Environments that each may have under way."""
    running: int = 0
    """Episodes under way."""
    waiting: int = 0
    """Episodes that have not been begun."""
    workers: int = 0
    queue: int = 0
    """Queries that wait for a policy."""
    simulator_share: float | None = None
    """Share of the time in which simulators had something to simulate."""
    device_share: float | None = None
    """Share of the time in which policies computed."""
    batch_fill: float | None = None
    """Share of the rows of all calls that held a query."""
    queries_per_s: float | None = None
    steps_per_s: float | None = None
    phase_ms: dict[str, float] = field(default_factory=dict)
    """Mean time of each phase."""
    sim_ms: float | None = None
    """What a simulator does for one query: steps, frames, and its part of resets and starts."""
    call_ms: float | None = None
    """One call of a policy."""
    call_rows: float = 1.0
    """Queries that a call had room for."""
    env_bytes: int | None = None
    """Memory of one environment, where it is largest."""
    free_bytes: int | None = None
    """Memory that is left, on the machine where it is least."""
    retried: int = 0
    """Attempts so far that had to be made again."""
    replaced: int = 0
    """Processes so far that had to be replaced."""
    starting: str = ""
    """What policy workers do that cannot answer yet."""
    slow: str = ""
    """What is taking long at this moment."""


def simulator_figures(readings: Readings) -> dict[str, Any]:
    """The part of the figures that simulators decide."""
    wall = idle = 0.0
    totals = {phase: PhaseTotals() for phase in PHASES}
    for before, now in readings:
        wall += now.process.clock_s - before.process.clock_s
        idle += now.idle_s - before.idle_s
        for phase in PHASES:
            totals[phase] += now.totals[phase].since(before.totals[phase])
    if wall <= 0:
        return {}
    per_process = wall / len(readings)
    queries = totals["query"].count
    return {
        "simulator_share": max(0.0, 1 - idle / wall),
        "steps_per_s": totals["step"].count / per_process,
        "queries_per_s": queries / per_process,
        "sim_ms": round(1e3 * max(0.0, wall - idle) / queries, 3) if queries else None,
        "phase_ms": {p: round(_mean_ms(totals[p]), 3) for p in PHASES if totals[p].count},
        "env_bytes": env_bytes([now for _, now in readings]),
        "free_bytes": min(now.process.free_bytes for _, now in readings),
    }


def worker_figures(readings: WorkerReadings) -> dict[str, Any]:
    """The part of the figures that policy workers decide."""
    wall = busy = 0.0
    rows = places = queue = calls = 0
    for before, now in readings:
        wall += now.process.clock_s - before.process.clock_s
        busy += busy_s(now) - busy_s(before)
        rows += now.load.rows - before.load.rows
        places += now.load.places - before.load.places
        calls += now.load.batches - before.load.batches
        queue += now.load.waiting
    found: dict[str, Any] = {"queue": queue}
    if wall > 0:
        found["device_share"] = min(1.0, busy / wall)
    if calls:
        found["batch_fill"] = rows / places
        found["call_ms"] = round(1e3 * busy / calls, 3)
        found["call_rows"] = places / calls
    return found


def busy_s(heartbeat: WorkerHeartbeat) -> float:
    """Seconds in which a policy computed, the present call included."""
    return heartbeat.load.busy_s + heartbeat.load.running_for_s


def env_bytes(healths: Sequence[EnvActorHeartbeat]) -> int | None:
    """Memory of one environment, taken as all that its process has grown to: more than it is, never less."""
    sizes = [h.process.rss_bytes // h.environments for h in healths if h.environments]
    return max(sizes, default=None)


def _mean_ms(totals: PhaseTotals) -> float:
    return 1e3 * totals.wall_s / totals.count


def phase_text(phase: Phase) -> str:
    """How sentences speak of a phase."""
    return {
        "make": "starting a simulation",
        "reset": "a reset",
        "step": "a step",
        "render": "drawing a camera",
        "query": "an answer of the policy",
    }[phase]
