"""Compute engine metrics from pairs of successive heartbeats. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from simloop.harness.actors.heartbeat import EnvActorHeartbeat, WorkerHeartbeat
from simloop.harness.recording.engine_metrics import EnvActorMetrics, WorkerMetrics
from simloop.harness.rollout.phase_timer import PHASES, PhaseTotals

EnvActorPairs = Sequence[tuple[EnvActorHeartbeat, EnvActorHeartbeat]]
"""An earlier and a later heartbeat of each env actor."""
WorkerPairs = Sequence[tuple[WorkerHeartbeat, WorkerHeartbeat]]
"""An earlier and a later heartbeat of each policy worker."""


def env_actor_metrics(pairs: EnvActorPairs) -> EnvActorMetrics:
    """Return rates, shares and mean durations over the time between the heartbeats of each pair."""
    wall = idle = 0.0
    totals = {phase: PhaseTotals() for phase in PHASES}
    for before, now in pairs:
        wall += now.process.clock_s - before.process.clock_s
        idle += now.idle_s - before.idle_s
        for phase in PHASES:
            totals[phase] += now.totals[phase].since(before.totals[phase])
    if wall <= 0:
        return EnvActorMetrics()
    per_process = wall / len(pairs)
    queries = totals["query"].count
    fullest = min((now.process for _, now in pairs), key=lambda process: process.free_bytes)
    return EnvActorMetrics(
        simulator_share=max(0.0, 1 - idle / wall),
        queries_per_s=queries / per_process,
        steps_per_s=totals["step"].count / per_process,
        phase_ms={p: round(1e3 * t.wall_s / t.count, 3) for p, t in totals.items() if t.count},
        sim_ms=round(1e3 * max(0.0, wall - idle) / queries, 3) if queries else None,
        actor_bytes=_actor_bytes([now for _, now in pairs]),
        env_bytes=_env_bytes([now for _, now in pairs]),
        free_bytes=fullest.free_bytes,
        total_bytes=fullest.total_bytes,
    )


def worker_metrics(pairs: WorkerPairs) -> WorkerMetrics:
    """Return queue length, utilization and batch statistics over the time between the heartbeats of each pair."""
    wall = busy = 0.0
    rows = places = batches = 0
    for before, now in pairs:
        wall += now.process.clock_s - before.process.clock_s
        busy += _busy_s(now) - _busy_s(before)
        rows += now.load.rows - before.load.rows
        places += now.load.places - before.load.places
        batches += now.load.batches - before.load.batches
    return WorkerMetrics(
        queue=sum(now.load.waiting for _, now in pairs),
        device_share=min(1.0, busy / wall) if wall > 0 else None,
        batch_fill=rows / places if batches else None,
        call_ms=round(1e3 * busy / batches, 3) if batches else None,
        call_rows=places / batches if batches else 1.0,
    )


def _busy_s(heartbeat: WorkerHeartbeat) -> float:
    """Seconds in which a policy computed, including the current batch."""
    return heartbeat.load.busy_s + heartbeat.load.running_for_s


def _actor_bytes(heartbeats: Sequence[EnvActorHeartbeat]) -> int | None:
    """Return the memory of an env actor with one environment; with more and no measurement, an upper bound."""
    sizes = [h.first_bytes or h.process.rss_bytes for h in heartbeats if h.environments]
    return max(sizes, default=None)


def _env_bytes(heartbeats: Sequence[EnvActorHeartbeat]) -> int | None:
    """Return the memory of a further environment; where none was added, an upper bound."""
    return max((_further_bytes(h) for h in heartbeats if h.environments), default=None)


def _further_bytes(heartbeat: EnvActorHeartbeat) -> int:
    size, count = heartbeat.process.rss_bytes, heartbeat.environments
    if count == 1 or not heartbeat.first_bytes:
        return size // count
    return max(0, size - heartbeat.first_bytes) // (count - 1)
