"""Baselines of `simloop bench engine`: the same work without an engine, and gymnasium's AsyncVectorEnv."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from simloop.envs.gym import GymEnv
from simloop.envs.interface import Env
from simloop.harness.actors.factories import make_env
from simloop.harness.bench.workload import Workload
from simloop.harness.errors import SimloopError
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.serving.stub_policy import StubPolicy
from simloop.policies.interface import Chunk, Query

_start: Barrier
"""Aligns the measurements of all processes; set in each of them."""


def simulation_alone(work: Workload, processes: int, seconds: float) -> float:
    """Return the queries per second that bare loops of reset, render and step would send, one loop per process.

    Raises:
      SimloopError: If the task cannot be simulated or a process dies.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _set_start, (barrier,)) as pool:
        futures = [pool.submit(_simulate, work, i, processes, seconds) for i in range(processes)]
        errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        error = next((e for e in errors if not isinstance(e, BrokenBarrierError)), errors[0])
        raise SimloopError(f"{work.suite}/{work.task} cannot be simulated: {error}") from error
    return sum(future.result() for future in futures)


def _set_start(barrier: Barrier) -> None:
    global _start
    _start = barrier


def _simulate(work: Workload, first: int, every: int, seconds: float) -> float:
    try:
        env = make_env(work.suite, work.task_spec.name, work.protocol.render)
        episodes = iter(work.episodes()[first::every])
        for _ in bare_episode(env, work, next(episodes)):
            pass
    except Exception as error:
        _start.abort()
        # A plain exception, because those with arguments of their own cannot be sent between processes.
        raise RuntimeError(f"{type(error).__name__}: {error}") from None
    _start.wait()
    queries, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in bare_episode(env, work, next(episodes)):
            queries += 1
            if time.perf_counter() - started >= seconds:
                break
    return queries / (time.perf_counter() - started)


def bare_episode(env: Env, work: Workload, spec: EpisodeSpec) -> Iterator[int]:
    """Play an episode without the harness; yields the number of steps after each query."""
    policy, adapter, task = StubPolicy(work.stub), work.adapter, env.spec
    env.reset(spec.seed)
    left, number, success = work.max_steps, 0, False
    while left > 0 and not success:
        images = {name: env.render(adapter.cameras[name]) for name in policy.spec.cameras}
        query = Query(task.name, task.instruction, spec.key + number, np.zeros(1, np.float32), images)
        number += 1
        steps = 0
        actions = adapter.actions(task, policy.infer([query], 1).chunks[0].actions)
        for action in actions[: min(work.replan_steps, left)]:
            success = env.step(action).success
            steps += 1
            if success:
                break
        left -= steps
        yield steps


def policy_alone(work: Workload, seconds: float) -> float:
    """Return the queries per second of the policy with full batches, one after the other."""
    policy = StubPolicy(work.stub)
    queries = [_blank_query(policy, key) for key in range(work.batch_size)]
    answered, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        answered += len(policy.infer(queries, work.batch_size).chunks)
    return answered / (time.perf_counter() - started)


def stub_cpu_ms(work: Workload, queries: int = 200) -> float:
    """Return the CPU time per query of the stub itself, which reads the images and draws actions."""
    policy = StubPolicy(work.with_service(0.0).stub)
    started = time.thread_time()
    for key in range(queries):
        policy.infer([_blank_query(policy, key)], work.batch_size)
    return 1e3 * (time.thread_time() - started) / queries


def _blank_query(policy: StubPolicy, key: int) -> Query:
    images = dict.fromkeys(policy.spec.cameras, np.zeros((224, 224, 3), np.uint8))
    return Query("task", "instruction", key, np.zeros(1, np.float32), images)


def async_vector_env(work: Workload, environments: int, seconds: float) -> float:
    """Return the steps per second of all environments in an `AsyncVectorEnv`.

    Each step waits for the slowest environment and renders every camera. The policy gets one query per environment
    and chunk, as from the engine.
    """
    stub, adapter, task = work.stub, work.adapter, work.task_spec
    policy = StubPolicy(stub)
    cameras = {name: adapter.cameras[name] for name in stub.cameras}

    def query(observation: dict[str, np.ndarray], i: int, key: int) -> Query:
        images = {name: observation[camera][i] for name, camera in cameras.items()}
        return Query("task", "instruction", key, observation["state"][i], images)

    envs = AsyncVectorEnv(
        [_GymFactory(work, tuple(cameras.values())) for _ in range(environments)],
        context="spawn",
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    try:
        observation, _ = envs.reset(seed=list(range(environments)))
        steps, key = 0, 0
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            queries = [query(observation, i, key + i) for i in range(environments)]
            key += environments
            chunks: list[Chunk] = []
            for first in range(0, environments, work.batch_size):
                chunks += policy.infer(queries[first : first + work.batch_size], work.batch_size).chunks
            actions = np.stack([adapter.actions(task, chunk.actions) for chunk in chunks], axis=1)
            for row in range(work.replan_steps):
                observation, *_ = envs.step(actions[row])
                steps += environments
        return steps / (time.perf_counter() - started)
    finally:
        envs.close(terminate=True)


class _GymFactory:
    def __init__(self, work: Workload, cameras: tuple[str, ...]):
        self._work, self._cameras = work, cameras

    def __call__(self) -> gymnasium.Env:
        env: Any = GymEnv(
            self._work.suite, self._work.task_spec.name, cameras=self._cameras, render_mode=None
        )
        return gymnasium.wrappers.TimeLimit(env, self._work.max_steps)
