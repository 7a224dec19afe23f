"""Policies for the point suite, small enough to be checked by hand."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
import ray

from simloop.policies.interface import (
    BatchedPolicy,
    Chunk,
    CompilationProgress,
    InferenceResult,
    PolicySpec,
    Query,
    require_fitting,
)
from simloop.policies.models.inference_plan import InferencePlan


class PointPolicy(BatchedPolicy):
    """Steps towards the goal, with a little noise from the query's key."""

    def __init__(
        self,
        name: str = "point-expert",
        *,
        cameras: tuple[str, ...] = (),
        chunk_steps: int = 5,
        noise: float = 0.0,
        undecodable_from: int | None = None,
    ):
        self.spec = PolicySpec(
            name=name,
            robot="any" if not cameras else "point",
            weights="scripted",
            cameras=cameras,
            image_hw=None,
            state_size=None,
            action_size=2,
            chunk_steps=chunk_steps,
            runs_in="actor",
            uses_privileged=True,
        )
        self._noise = noise
        self._undecodable_from = undecodable_from
        self.asked: list[Query] = []

    def infer(self, queries: Sequence[Query], batch_size: int) -> InferenceResult:
        require_fitting(queries, batch_size)
        began = time.perf_counter()
        chunks = [self._chunk(query) for query in queries]
        return InferenceResult(chunks, device_s=time.perf_counter() - began)

    def _chunk(self, query: Query) -> Chunk:
        self.asked.append(query)
        if self._undecodable_from is not None and len(self.asked) > self._undecodable_from:
            return Chunk(np.zeros((0, 2), np.float32), undecodable=(7, 8))
        position, goal = np.split(query.privileged, 2)
        actions = []
        for _ in range(self.spec.chunk_steps):
            action = np.clip((goal - position) / 0.1, -1, 1)
            position = position + 0.1 * action
            actions.append(action)
        noise = np.random.default_rng(query.key).normal(size=(self.spec.chunk_steps, 2))
        return Chunk((np.array(actions) + self._noise * noise).astype(np.float32))


class FailingPolicy(PointPolicy):
    def infer(self, queries: Sequence[Query], batch_size: int) -> InferenceResult:
        raise ValueError("cannot answer this")


class SlowlyCompiledPolicy(PointPolicy):
    """Takes long enough to compile for others to hear of it."""

    def prepare(
        self, batch_size: int, on_progress: Callable[[CompilationProgress], None] | None = None
    ) -> float:
        assert on_progress is not None
        for done in range(2):
            on_progress(CompilationProgress(done, 2, ("one", "other")[done:], 3.0 * done))
            time.sleep(3.0)
        return 6.0


def load_point_policy(name: str, plan: InferencePlan | None = None) -> BatchedPolicy:
    """`exact-` steps straight to the goal, `noisy-` does not, `slow-` takes long to compile, `failing-` and `broken-`
    fail; then where it runs."""
    kind, place = name.rsplit("-", 1)
    if kind == "broken" and place == "worker" and in_ray_worker():
        raise FileNotFoundError("no such weights")
    make = {"failing": FailingPolicy, "slow": SlowlyCompiledPolicy}.get(kind, PointPolicy)
    policy = make(name, noise=0.5 if kind == "noisy" else 0.0)
    policy.spec = dataclasses.replace(policy.spec, runs_in=place)
    return policy


def in_ray_worker() -> bool:
    """Whether this is a Ray worker rather than the test itself."""
    return ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE
