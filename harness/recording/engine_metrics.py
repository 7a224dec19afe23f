"""Throughput and utilization of a running engine, as `status.json` and dashboards hold them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EnvActorMetrics:
    """Metrics over all env actors. None where there is no measurement yet."""

    simulator_share: float | None = None
    """Mean fraction of the time in which an env actor had an environment to simulate."""
    queries_per_s: float | None = None
    steps_per_s: float | None = None
    phase_ms: dict[str, float] = field(default_factory=dict)
    """Mean duration of each phase, in milliseconds."""
    sim_ms: float | None = None
    """Simulation per query, in milliseconds: steps, frames, and a share of resets and starts."""
    actor_bytes: int | None = None
    """Memory of an env actor with its first environment, where it is largest."""
    env_bytes: int | None = None
    """Memory of a further environment, which shares the compiled model of others of its task, where it is largest."""
    free_bytes: int | None = None
    """Free memory of the node that has least."""
    total_bytes: int | None = None
    """Memory of that node, which its container may limit."""


@dataclass(frozen=True)
class WorkerMetrics:
    """Metrics over all policy workers. None where there is no measurement yet."""

    queue: int = 0
    """Queries waiting for a policy."""
    device_share: float | None = None
    """Mean fraction of the time in which a policy was computing."""
    batch_fill: float | None = None
    """Fraction of the rows of all batches that held a query."""
    call_ms: float | None = None
    """Mean duration of a batch, in milliseconds."""
    call_rows: float = 1.0
    """Mean batch size, padding included."""


@dataclass(frozen=True)
class EngineMetrics(EnvActorMetrics, WorkerMetrics):
    """Metrics of an engine over the last seconds."""

    simulators: int = 0
    """Env actors."""
    places: int = 1
    """Environments per env actor."""
    running: int = 0
    """Episodes under way."""
    waiting: int = 0
    """Episodes that have not been started."""
    workers: int = 0
    """Policy workers."""
    retried: int = 0
    """Attempts that failed and were repeated, since the start."""
    replaced: int = 0
    """Processes that were replaced, since the start."""
    starting: str = ""
    """What policy workers that are not ready yet are doing."""
    slow: str = ""
    """A phase that is taking long at the moment."""
