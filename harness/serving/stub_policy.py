"""A policy without a model, to measure and test the engine without a device.

It sleeps for a set time per batch and derives its answers from the keys and images of the queries, so that a reply to
another query is noticed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simloop.policies.interface import (
    BatchedPolicy,
    Chunk,
    InferenceResult,
    PolicySpec,
    Query,
    require_fitting,
)


@dataclass(frozen=True)
class Stub:
    """Settings of a stub policy."""

    name: str = "stub"
    robot: str = "metaworld"
    cameras: tuple[str, ...] = ()
    action_size: int = 4
    chunk_steps: int = 10
    service_s: float = 0.0
    """Seconds that every call takes, whatever the number of queries."""

    def spec(self) -> PolicySpec:
        """Return the spec of the policy."""
        return PolicySpec(
            name=self.name,
            robot=self.robot,
            weights="scripted",
            cameras=self.cameras,
            image_hw=None,
            state_size=None,
            action_size=self.action_size,
            chunk_steps=self.chunk_steps,
        )


class StubPolicy(BatchedPolicy):
    """Sleep, then answer each query with actions drawn from its key and its images."""

    def __init__(self, stub: Stub):
        self.spec = stub.spec()
        self._stub = stub

    def infer(self, queries: Sequence[Query], batch_size: int) -> InferenceResult:
        """Answer 1 to `batch_size` queries."""
        require_fitting(queries, batch_size)
        began = time.perf_counter()
        chunks = [Chunk(self._actions(query)) for query in queries]
        time.sleep(max(0.0, self._stub.service_s - (time.perf_counter() - began)))
        return InferenceResult(chunks, device_s=time.perf_counter() - began)

    def _actions(self, query: Query) -> np.ndarray:
        seen = [int(query.images[camera][::16, ::16].sum(dtype=np.int64)) for camera in self.spec.cameras]
        generator = np.random.default_rng([query.key, *seen])
        shape = (self._stub.chunk_steps, self._stub.action_size)
        return generator.uniform(-1, 1, shape).astype(np.float32)
