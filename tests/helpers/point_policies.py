"""Policies for the point suite, small enough to be checked by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.interface import Answer, Chunk, Policy, PolicySpec, Query


class PointPolicy(Policy):
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

    def prepare(self, bucket: int) -> float:
        return 0.0

    def infer(self, queries: Sequence[Query], bucket: int) -> Answer:
        assert 1 <= len(queries) <= bucket
        return Answer([self._chunk(query) for query in queries], host_s=0.001, device_s=0.002, post_s=0.003)

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
