"""Workload of `simloop bench`: episodes of one task with a stub policy that takes a fixed time per batch."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Suppress, arg

from simloop.envs.interface import TaskSpec
from simloop.envs.registry import resolve_tasks
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.registry import ADAPTERS, find_adapter
from simloop.harness.errors import SimloopError
from simloop.harness.planning.plan import EpisodeSpec, make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.phase_timer import Phase
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.results.records.records import QueryRecord

EPISODES = 100_000
"""More than any measurement plays."""
SIMULATING: tuple[Phase, ...] = ("make", "reset", "step", "render")


@dataclass(frozen=True)
class Workload:
    """Episodes that are played while something is measured."""

    suite: Annotated[str, arg(metavar="S")] = "metaworld"
    """Suite of the task."""
    task: Annotated[str, arg(metavar="T")] = "reach-v3"
    """Task to simulate."""
    max_steps: Annotated[int, arg(metavar="N")] = 100
    """Control steps per episode."""
    replan_steps: Annotated[int, arg(metavar="N")] = 10
    """Actions between two queries."""
    batch_size: Annotated[int, arg(metavar="N")] = 4
    """Batch size of the policy."""
    images: bool = True
    """Whether the policy sees the images of the robot's cameras."""
    service_s: Annotated[float, Suppress] = 0.0
    """Seconds that the policy takes for a batch."""

    @property
    def protocol(self) -> Protocol:
        """Protocol of the episodes."""
        return Protocol(self.suite, max_steps=self.max_steps, replan_steps=self.replan_steps)

    @property
    def task_spec(self) -> TaskSpec:
        """Specification of the task.

        Raises:
          SimloopError: If the name stands for several tasks.
          UnknownNameError: If there is no such task.
        """
        task, *others = resolve_tasks(self.suite, [self.task])
        if others:
            raise SimloopError(
                f"--task {self.task} is {1 + len(others)} tasks; name one, such as {task.name}."
            )
        return task

    @property
    def stub(self) -> Stub:
        """Settings of the policy, which looks through all cameras of the robot or through none."""
        adapter = next(adapter for adapter in ADAPTERS.values() if adapter.suite == self.suite)
        return Stub(
            robot=adapter.robot,
            cameras=tuple(adapter.cameras) if self.images else (),
            action_size=self.task_spec.action_size,
            chunk_steps=self.replan_steps,
            service_s=self.service_s,
        )

    @property
    def adapter(self) -> Adapter:
        """Adapter between the suite and the policy."""
        return find_adapter(self.suite, self.stub.spec())

    def episodes(self) -> tuple[EpisodeSpec, ...]:
        """Return more episodes than any measurement plays."""
        return make_plan([self.stub.name], [self.task_spec], self.protocol, EPISODES, seed=0).episodes

    def load_policy(self, name: str, options: object = None) -> StubPolicy:
        """Create the policy, in the way in which `Factories.policy` is called."""
        return StubPolicy(self.stub)

    def with_service(self, service_s: float) -> Workload:
        """Return the workload with another duration of batches."""
        return dataclasses.replace(self, service_s=service_s)


def overhead_ms(queries: Iterable[QueryRecord]) -> float:
    """Return the median latency of queries without rendering, device time, retries, and waiting for device or turn."""
    left_out = ("render_ms", "device_ms", "queue_ms", "turn_ms", "retry_ms")
    return statistics.median(q.total_ms - sum(getattr(q, stage) for stage in left_out) for q in queries)
