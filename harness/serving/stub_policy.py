"""A policy without a model: it takes a set time for a batch and answers from the keys of its queries.

With it the engine can be measured and tested where no device is: it is as slow as one wishes, costs no core,
and what it answers shows at once whether somebody got another one's answer.
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
    """What a stub policy looks like from outside."""

    name: str = "stub"
    robot: str = "metaworld"
    cameras: tuple[str, ...] = ()
    action_size: int = 4
    chunk_steps: int = 10
    service_s: float = 0.0
    """Seconds that every call takes, however many queries it answers."""

    def spec(self) -> PolicySpec:
        """As policies describe themselves."""
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
    """Sleeps, then answers each query with actions drawn from its key and from its images."""

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
