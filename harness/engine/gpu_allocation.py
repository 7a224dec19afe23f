"""How the GPUs of all machines are shared out to policy workers. Pure: it is told what there is."""

from __future__ import annotations

from dataclasses import dataclass

from simloop.harness.engine.resources import EngineError

AHEAD = 1  # While one policy plays, the next compiles; more would compete for memory.


@dataclass(frozen=True)
class WorkerGpus:
    """GPUs, and who wants some."""

    of_machines: tuple[int, ...]
    """GPUs of each machine."""
    policies: int
    """Policies that answer in workers."""
    per_worker: int = 1
    """GPUs of a worker, all of one machine."""
    workers: int | None = None
    """Workers for each policy, where that was said by hand."""

    @property
    def places(self) -> int:
        """Workers of whole GPUs that there is room for."""
        return sum(gpus // self.per_worker for gpus in self.of_machines)

    @property
    def ahead(self) -> int:
        """How many policies may have workers beside the one that plays. Single GPUs are shared with them."""
        others = min(max(0, self.policies - 1), AHEAD)
        return others if self.per_worker == 1 or self.places > others else 0

    @property
    def most_workers(self) -> int:
        """Of one policy."""
        if self.workers is not None:
            return self.workers
        return max(1, self.places if self.per_worker == 1 else self.places // (1 + self.ahead))

    @property
    def share(self) -> float:
        """What a worker reserves of Ray's GPUs."""
        if self.per_worker > 1:
            return float(self.per_worker)
        return min(1.0, self.places / self.most_workers) / (1 + self.ahead)

    def check(self) -> None:
        """Raise `EngineError` if workers of several GPUs cannot be had as asked: they would be waited for in vain."""
        if self.policies == 0 or self.per_worker == 1:
            return
        wanted = (self.workers or 1) * (1 + self.ahead)
        if wanted > self.places:
            found = ", ".join(str(gpus) for gpus in self.of_machines if gpus) or "none"
            raise EngineError(
                f"Workers at a time: {wanted}, each with {self.per_worker} GPUs of one machine (--gpus-per-worker, "
                f"--workers). GPUs of the machines: {found}. Ask for no more."
            )

    def check_in_turns(self) -> None:
        """Raise `EngineError` unless two policies can answer in turns, as paired comparisons want it."""
        if self.policies > 1 and self.per_worker > 1 and self.ahead == 0:
            raise EngineError(
                f"Two policies that play in turns want two workers of {self.per_worker} GPUs; there is room for "
                f"{self.places}. Give --gpus-per-worker fewer."
            )
