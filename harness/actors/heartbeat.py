"""What the processes of a run say of themselves every few seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from simloop.harness.rollout.phase_timer import Phase, PhaseTotals
from simloop.harness.serving.batcher import WorkerLoad


@dataclass(frozen=True)
class ProcessHeartbeat:
    """What any process can say."""

    pid: int
    node: str
    """Ray's id of the machine."""
    rss_bytes: int
    cpu_s: float
    """User and system time of the process since it began."""
    clock_s: float
    """When this was said, on the machine's clock."""
    free_bytes: int
    """Memory that the machine can still give."""


@dataclass(frozen=True)
class Activity:
    """One environment's place in its episode."""

    attempt_id: int
    """Which attempt of the engine's it belongs to."""
    phase: Phase | None
    """None between two phases."""
    for_s: float


@dataclass(frozen=True)
class EnvActorHeartbeat:
    """What a simulator's process says."""

    process: ProcessHeartbeat
    doing: tuple[Activity, ...] = ()
    totals: Mapping[Phase, PhaseTotals] = field(default_factory=dict)
    idle_s: float = 0.0
    """In which every environment waited for a policy, or there was none."""
    environments: int = 0
    """Simulations that are alive."""
    bytes_sent: int = 0
    """Of images and states to policies of this machine."""


@dataclass(frozen=True)
class WorkerHeartbeat:
    """What a policy worker says."""

    process: ProcessHeartbeat
    prepared: bool
    load: WorkerLoad
    doing: str = ""
    """What it does before it can answer, and for how long, in words."""
    steps: int = 0
    """How often it has come a step further towards that: weights loaded, a program compiled."""


def process_heartbeat(node: str) -> ProcessHeartbeat:
    """Of the process that calls this."""
    process = psutil.Process(os.getpid())
    times = process.cpu_times()
    return ProcessHeartbeat(
        os.getpid(),
        node,
        process.memory_info().rss,
        times.user + times.system,
        time.perf_counter(),
        free_memory(),
    )


def free_memory() -> int:
    """Bytes that processes here can still have, by the machine or by the limit of the container."""
    free = psutil.virtual_memory().available
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    return min(free, limit - used) if limit is not None and used is not None else free


def _cgroup(name: str) -> int | None:
    try:
        text = Path(f"/sys/fs/cgroup/{name}").read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
