"""The usual way to run several environments, for comparison: gymnasium's AsyncVectorEnv, all in lock step."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from simloop.envs.gym import GymEnv
from simloop.harness.bench.workload import EngineWorkload
from simloop.harness.serving.stub_policy import StubPolicy
from simloop.policies.interface import Chunk, Query


def lock_step(work: EngineWorkload, environments: int, seconds: float) -> float:
    """Steps per second of all environments together: each step waits for the slowest, each draws every camera.

    The policy is asked once for all of them, as often as for the engine.
    """
    stub, adapter, task = work.stub, work.adapter, work.task_spec
    policy = StubPolicy(stub)
    cameras = [adapter.cameras[name] for name in stub.cameras]
    envs = AsyncVectorEnv(
        [_Maker(work, tuple(cameras)) for _ in range(environments)],
        context="spawn",
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    try:
        observation, _ = envs.reset(seed=list(range(environments)))
        steps = asked = 0
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            queries = [_query(work, observation, i, asked) for i in range(environments)]
            asked += 1
            chunks: list[Chunk] = []
            for first in range(0, environments, work.batch_size):
                chunks += policy.infer(queries[first : first + work.batch_size], work.batch_size).chunks
            actions = np.stack([adapter.actions(task, chunk.actions) for chunk in chunks], axis=1)
            for row in range(work.replan_steps):
                observation, *_ = envs.step(actions[row])
                steps += environments
        return steps / (time.perf_counter() - began)
    finally:
        envs.close(terminate=True)


class _Maker:
    def __init__(self, work: EngineWorkload, cameras: tuple[str, ...]):
        self._work, self._cameras = work, cameras

    def __call__(self) -> gymnasium.Env:
        env: Any = GymEnv(self._work.suite, self._work.task, cameras=self._cameras, render_mode=None)
        return gymnasium.wrappers.TimeLimit(env, self._work.max_steps)


def _query(work: EngineWorkload, observation: dict[str, np.ndarray], i: int, number: int) -> Query:
    images = {name: observation[work.adapter.cameras[name]][i] for name in work.stub.cameras}
    return Query("t", "i", 1000 * number + i, observation["state"][i], images)
