"""Choose the number of env actors, environments per actor and policy workers from measured throughput. Pure.

An environment is simulated up to its next query, waits for the batch that is running, and then for its own batch.
By Little's law, the environments needed per actor are

    enough = rate * (sim + 2 batch) / env_actors,    rate = min(env_actors / sim, workers * batch_size / batch)

where `sim` is the simulation time per query and `batch` the duration of a batch, both measured. As this assumes
that everything takes its mean time, one more environment per actor is tried wherever both actors and policies still
wait, and is kept if the queries per second rise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from simloop.harness.recording.engine_metrics import EngineMetrics

INITIAL_ENVS = 2
"""Environments per actor before anything is measured: one is simulated while the other waits."""
BATCHES_PER_QUERY = 2
"""Batches that a query waits for: the one that is running when it arrives, and its own."""
EXCESS = 2
"""Multiple of the computed environments beyond which no more are tried, and above which they are reduced."""
BUSY = 0.97
"""Utilization from which on an env actor or a policy counts as never waiting."""
GAIN = 1.02
"""Factor by which queries per second must rise for one more environment per actor to be kept."""
SPARE = 0.8
"""Utilization of the policy workers above which another one is started: at full load, queries queue up."""
HEADROOM = 0.12
"""Fraction of the memory that stays free."""
ASSUMED_BYTES = 5 * 2**28
"""Memory of an env actor before it is measured; a LIBERO scene takes 1.1 GiB when it is compiled and rendered."""
SMALLEST_BYTES = 2**24
"""Memory that a further environment counts at least; one that shares everything may add nothing measurable."""


@dataclass(frozen=True)
class Limits:
    """Upper limits, and values set by the user."""

    env_actors: int
    """Most env actors, one per core; or the number set by the user."""
    workers: int
    """Most workers per policy, one per device; or the number set by the user."""
    envs_per_actor: int | None = None
    """Environments per actor, if set by the user."""
    env_actors_fixed: bool = False
    workers_fixed: bool = False
    uses_workers: bool = True
    """Whether any policy runs in policy workers: otherwise env actors never wait."""


class Autoscaler:
    """The chosen numbers. Those set by the user never change.

    Args:
      room: Env actors that fit into memory at `ASSUMED_BYTES` each; None to ignore memory at first.
    """

    def __init__(self, limits: Limits, room: int | None = None):
        self._limits = limits
        self.envs_per_actor = limits.envs_per_actor or (INITIAL_ENVS if limits.uses_workers else 1)
        self.env_actors = limits.env_actors
        if room is not None and not limits.env_actors_fixed:
            self.env_actors = max(1, min(limits.env_actors, room))
        self.workers = limits.workers if limits.workers_fixed else 1
        self._rate_before: float | None = None
        """Queries per second before the environment that is being tried was added; None if none is."""
        self._settled_at: int | None = None
        """Value of `enough` when a trial last brought no gain."""
        self._max_envs = math.inf
        """Limit of the environments per actor after memory has run short."""

    def reset(self) -> None:
        """Forget what was tried, because another policy is playing."""
        self._rate_before = self._settled_at = None

    def judge(self, metrics: EngineMetrics) -> str:
        """Adjust the numbers; returns the reason if one of them has changed, otherwise ''.

        Args:
          metrics: Measured while all allowed environments were in use.
        """
        if self.short_of_memory(metrics):
            return self._reduce()
        if not metrics.waiting:  # There are no episodes for more environments.
            return ""
        actors, room = self._room(metrics)
        if self.env_actors < self._limits.env_actors and actors:
            self.env_actors = min(self._limits.env_actors, self.env_actors + actors)
            return "there is memory for more env actors"
        if metrics.sim_ms is None or metrics.call_ms is None:
            return ""
        if reason := self._add_workers(metrics.sim_ms, metrics.call_ms, metrics.call_rows):
            return reason
        if self._limits.envs_per_actor is not None:
            return ""
        return self._adjust_envs(metrics, metrics.sim_ms, metrics.call_ms, room)

    def short_of_memory(self, metrics: EngineMetrics) -> bool:
        """Return whether the node with the least free memory has hardly any."""
        free, total = metrics.free_bytes, metrics.total_bytes
        return free is not None and total is not None and free < HEADROOM / 2 * total

    def _reduce(self) -> str:
        if self._limits.envs_per_actor is None and self.envs_per_actor > 1:
            self.envs_per_actor -= 1
            self._max_envs = self.envs_per_actor
        elif self.env_actors > 1 and not self._limits.env_actors_fixed:
            self.env_actors -= 1
            self._limits = replace(self._limits, env_actors=self.env_actors)
        else:
            return ""
        return "a node is short of memory"

    def _room(self, metrics: EngineMetrics) -> tuple[int, int]:
        """Return how many more env actors, or else how many more environments of the present ones, fit into memory."""
        if metrics.free_bytes is None or metrics.total_bytes is None or not metrics.actor_bytes:
            return 0, 0
        free = max(0, int(metrics.free_bytes - HEADROOM * metrics.total_bytes))
        further = max(metrics.env_bytes or 0, SMALLEST_BYTES)
        return free // (metrics.actor_bytes + (self.envs_per_actor - 1) * further), free // further

    def _add_workers(self, sim_ms: float, batch_ms: float, batch_size: float) -> str:
        if self._limits.workers_fixed or batch_ms <= 0:
            return ""
        demand, capacity = 1e3 * self.env_actors / sim_ms, 1e3 * batch_size / batch_ms
        wanted = min(self._limits.workers, math.ceil(demand / (SPARE * capacity)))
        if wanted <= self.workers:
            return ""
        self.workers = wanted
        return f"env actors can send {demand:.3g} queries per second, and one worker answers {capacity:.3g}"

    def enough(self, sim_ms: float, batch_ms: float, batch_size: float) -> int:
        """Return the environments per actor that keep the scarcer side busy if everything takes its mean time.

        Args:
          sim_ms: Simulation per query.
          batch_ms: Duration of a batch.
          batch_size: Queries that fit into a batch.
        """
        rate = self.env_actors / sim_ms
        if batch_ms > 0:
            rate = min(rate, self.workers * batch_size / batch_ms)
        needed = rate * (sim_ms + BATCHES_PER_QUERY * batch_ms) / self.env_actors
        return max(INITIAL_ENVS, math.ceil(needed - 1e-6))

    def _adjust_envs(self, metrics: EngineMetrics, sim_ms: float, batch_ms: float, room: int) -> str:
        enough = self.enough(sim_ms, batch_ms, metrics.call_rows)
        rate, before = metrics.queries_per_s or 0.0, self._rate_before
        self._rate_before = None
        most = min(self.envs_per_actor + room // self.env_actors, self._max_envs)
        measured = f"a query takes {sim_ms:.3g} ms of simulation, and a batch {batch_ms:.3g} ms"
        if self.envs_per_actor < min(enough, most):
            self._settled_at = None
            self.envs_per_actor = int(min(enough, most))
            return measured
        if before is not None and rate < GAIN * before:
            self.envs_per_actor -= 1
            self._settled_at = enough
            return "one more environment per actor brought no gain"
        if self.envs_per_actor > EXCESS * enough:
            self.envs_per_actor, self._settled_at = enough, None
            return measured
        if self._settled_at is not None and enough <= self._settled_at:
            return ""
        if self.envs_per_actor >= min(EXCESS * enough, most) or _saturated(metrics):
            return ""
        self._rate_before = rate
        self.envs_per_actor += 1
        return (
            f"env actors waited {1 - (metrics.simulator_share or 0.0):.0%} of the time, and {_slack(metrics)}"
        )


def _saturated(metrics: EngineMetrics) -> bool:
    full = (metrics.device_share or 0.0) >= BUSY and (metrics.batch_fill or 0.0) >= BUSY
    return full or (metrics.simulator_share or 0.0) >= BUSY


def _slack(metrics: EngineMetrics) -> str:
    idle = 1 - (metrics.device_share or 0.0)
    if idle > 1 - BUSY:
        return f"the policy {idle:.0%}"
    return f"batches were {metrics.batch_fill or 0.0:.0%} full"
