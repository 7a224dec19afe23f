"""Heartbeats that the processes of a run report every few seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from simloop.envs.served.process import usage
from simloop.harness import machine
from simloop.harness.rollout.phase_timer import Phase, PhaseTotals
from simloop.harness.serving.batcher import WorkerLoad


@dataclass(frozen=True)
class ProcessHeartbeat:
    """The part that all processes report."""

    pid: int
    node: str
    """Ray's id of the node."""
    rss_bytes: int
    """Memory of the process and of the simulators that it started."""
    cpu_s: float
    """User and system time of these processes since their start."""
    clock_s: float
    """`time.perf_counter` of the node at the time of the report."""
    free_bytes: int
    """Memory that processes of the node can still allocate."""
    total_bytes: int
    """Memory that processes of the node may use."""


@dataclass(frozen=True)
class Activity:
    """The present phase of one env slot."""

    attempt_id: int
    """The engine's id of the attempt that it plays."""
    phase: Phase | None
    """None between two phases."""
    for_s: float
    """Seconds since the phase began."""


@dataclass(frozen=True)
class EnvActorHeartbeat:
    """Heartbeat of an env actor."""

    process: ProcessHeartbeat
    doing: tuple[Activity, ...] = ()
    totals: Mapping[Phase, PhaseTotals] = field(default_factory=dict)
    idle_s: float = 0.0
    """Time in which every environment waited for a policy, or there was none."""
    environments: int = 0
    """Environments that are alive."""
    first_bytes: int = 0
    """Memory of the process when it last had one environment and was about to make another; 0 before."""
    bytes_sent: int = 0
    """Bytes of images and states sent to policy workers of the same node."""
    without_shared_memory: str = ""
    """Why queries to a worker of the same node go through Ray instead of shared memory; empty if none do."""


@dataclass(frozen=True)
class WorkerHeartbeat:
    """Heartbeat of a policy worker."""

    process: ProcessHeartbeat
    prepared: bool
    """Whether it can answer queries."""
    load: WorkerLoad
    doing: str = ""
    """What it is doing before it can answer, and for how long, as text."""
    steps: int = 0
    """Steps of preparation completed, such as loading weights or compiling a program."""


def process_heartbeat(node: str) -> ProcessHeartbeat:
    """Return the heartbeat of the calling process."""
    used, memory = usage(), machine.memory()
    return ProcessHeartbeat(
        os.getpid(),
        node,
        used.rss_bytes,
        used.cpu_s,
        time.perf_counter(),
        memory.free,
        memory.total,
    )
