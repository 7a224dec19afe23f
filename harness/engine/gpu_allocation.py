"""Share of the GPUs of all nodes that each policy worker reserves. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from simloop.harness.engine.resources import EngineError

AHEAD = 1
"""Policies whose workers are started while another policy is playing; more would compete for GPU memory."""


@dataclass(frozen=True)
class GpuAllocation:
    """The GPUs of a run and the policies that need them."""

    gpus_by_node: tuple[int, ...]
    policies: int
    """Policies that run in workers."""
    gpus_per_worker: int = 1
    """GPUs of a worker, all of one node."""
    workers: int | None = None
    """Workers per policy, if set by the user."""

    @property
    def capacity(self) -> int:
        """Workers that there are whole GPUs for."""
        return sum(gpus // self.gpus_per_worker for gpus in self.gpus_by_node)

    @property
    def ahead(self) -> int:
        """Policies that may have workers besides the one that is playing. They share its single GPUs."""
        others = min(max(0, self.policies - 1), AHEAD)
        return others if self.gpus_per_worker == 1 or self.capacity > others else 0

    @property
    def max_workers(self) -> int:
        """Most workers of one policy."""
        if self.workers is not None:
            return self.workers
        return max(1, self.capacity if self.gpus_per_worker == 1 else self.capacity // (1 + self.ahead))

    @property
    def gpus_reserved(self) -> float:
        """GPUs that a worker reserves from Ray; a fraction where workers share one."""
        if self.gpus_per_worker > 1:
            return float(self.gpus_per_worker)
        return min(1.0, self.capacity / self.max_workers) / (1 + self.ahead)

    def check(self) -> None:
        """Raise `EngineError` if workers with several GPUs do not fit: Ray would wait for them in vain."""
        if self.policies == 0 or self.gpus_per_worker == 1:
            return
        wanted = (self.workers or 1) * (1 + self.ahead)
        if wanted > self.capacity:
            found = ", ".join(str(gpus) for gpus in self.gpus_by_node if gpus) or "none"
            raise EngineError(
                f"{wanted} workers with {self.gpus_per_worker} GPUs of one node each were requested "
                f"(--gpus-per-worker, --workers). GPUs of the nodes: {found}. Request no more than these."
            )

    def check_alternating(self) -> None:
        """Raise `EngineError` unless two policies can have workers at once, as alternating episodes need."""
        if self.policies > 1 and self.gpus_per_worker > 1 and self.ahead == 0:
            raise EngineError(
                f"Two policies that alternate need two workers with {self.gpus_per_worker} GPUs each; there is room "
                f"for {self.capacity}. Use a smaller --gpus-per-worker."
            )
