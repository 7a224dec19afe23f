"""What the engine is measured with: a task, a policy that takes a set time, and the work without any engine."""

from __future__ import annotations

import dataclasses
import multiprocessing
import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np

from simloop.envs.interface import TaskSpec
from simloop.envs.registry import resolve_tasks
from simloop.harness.actors.factories import Factories, make_env
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.registry import ADAPTERS, find_adapter
from simloop.harness.errors import SimloopError
from simloop.harness.planning.plan import EpisodeSpec, Plan, make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.policies.interface import Query
from simloop.policies.models.inference_plan import InferencePlan

MANY = 100_000  # Episodes: more than any measurement plays.


@dataclass(frozen=True)
class EngineWorkload:
    """Episodes of one task with a stub policy."""

    suite: str
    task: str
    images: bool
    max_steps: int
    replan_steps: int
    batch_size: int
    service_s: float = 0.0

    @property
    def protocol(self) -> Protocol:
        """Rules by which all of this is played."""
        return Protocol(self.suite, max_steps=self.max_steps, replan_steps=self.replan_steps)

    @property
    def task_spec(self) -> TaskSpec:
        """The task."""
        (spec,) = resolve_tasks(self.suite, [self.task])
        return spec

    @property
    def stub(self) -> Stub:
        """The policy: it looks through all cameras of the robot, or through none."""
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
        """Between the two."""
        return find_adapter(self.suite, self.stub.spec())

    def plan(self) -> Plan:
        """More episodes than will be played."""
        return make_plan([self.stub.name], [self.task_spec], self.protocol, MANY, seed=0)

    def sources(self) -> Factories:
        """For the engine."""
        return Factories(policy=_Load(self.stub))

    def serving(self, service_s: float) -> EngineWorkload:
        """The same with another time for a call of the policy."""
        return dataclasses.replace(self, service_s=service_s)


@dataclass(frozen=True)
class _Load:
    stub: Stub

    def __call__(self, name: str, plan: InferencePlan | None = None) -> StubPolicy:
        return StubPolicy(self.stub)


@dataclass(frozen=True)
class Alone:
    """What simulators do when nothing else is there."""

    processes: int
    queries_per_s: float
    steps_per_s: float
    cpu_ms_per_query: float


def simulators_alone(work: EngineWorkload, processes: int, seconds: float) -> Alone:
    """Reset, draw, step: the work of the episodes in bare loops, one process per core, nobody asked.

    Raises:
      SimloopError: If a simulation fails or its process dies.
    """
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_simulate, args=(work, i, processes, seconds, barrier, answers))
        for i in range(processes)
    ]
    for worker in workers:
        worker.start()
    found: list[tuple[int, int, float, float]] = []
    while len(found) < processes:
        try:
            answer = answers.get(timeout=1.0)
        except queue.Empty:
            dead = [worker.exitcode for worker in workers if worker.exitcode]
            answer = f"a process ended with status {dead[0]}" if dead else None
        if isinstance(answer, str):
            for worker in workers:
                worker.kill()
            raise SimloopError(f"{work.suite}/{work.task} cannot be simulated: {answer}")
        if answer is not None:
            found.append(answer)
    for worker in workers:
        worker.join()
    queries = sum(q / s for q, _, s, _ in found)
    steps = sum(n / s for _, n, s, _ in found)
    cpu = sum(c for _, _, _, c in found) / sum(q for q, _, _, _ in found)
    return Alone(processes, queries, steps, 1e3 * cpu)


def _simulate(
    work: EngineWorkload, first: int, every: int, seconds: float, barrier: Barrier, answers: Any
) -> None:
    try:
        answers.put(_simulated(work, first, every, seconds, barrier))
    except Exception as error:
        answers.put(f"{type(error).__name__}: {error}")


def _simulated(
    work: EngineWorkload, first: int, every: int, seconds: float, barrier: Barrier
) -> tuple[int, int, float, float]:
    """Queries, steps, seconds, and seconds on a core."""
    env = make_env(work.suite, work.task, work.protocol.render)
    episodes = iter(work.plan().episodes[first::every])
    for _ in _bare_episode(env, work, next(episodes)):
        pass
    barrier.wait()
    queries = steps = 0
    began, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        for played in _bare_episode(env, work, next(episodes)):
            queries += 1
            steps += played
            if time.perf_counter() - began >= seconds:
                break
    return queries, steps, time.perf_counter() - began, time.process_time() - cpu


def _bare_episode(env: Any, work: EngineWorkload, spec: EpisodeSpec) -> Iterator[int]:
    """Yields the steps after each point at which a policy would have been asked."""
    policy, adapter, task = StubPolicy(work.stub), work.adapter, env.spec
    env.reset(spec.seed)
    left, number = work.max_steps, 0
    while left > 0:
        images = {model: env.render(adapter.cameras[model]) for model in policy.spec.cameras}
        query = Query(task.name, task.instruction, spec.key + number, np.zeros(1, np.float32), images)
        number += 1
        played, success = 0, False
        actions = adapter.actions(task, policy.infer([query], 1).chunks[0].actions)
        for action in actions[: min(work.replan_steps, left)]:
            success = env.step(action).success
            played += 1
            if success:
                break
        left -= played
        yield played
        if success:
            return


def policy_alone(work: EngineWorkload, seconds: float) -> float:
    """Queries per second of the policy with full batches, asked without a pause."""
    policy = StubPolicy(work.stub)
    images = dict.fromkeys(policy.spec.cameras, np.zeros((224, 224, 3), np.uint8))
    queries = [Query("t", "i", i, np.zeros(1, np.float32), images) for i in range(work.batch_size)]
    rows, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        rows += len(policy.infer(queries, work.batch_size).chunks)
    return rows / (time.perf_counter() - began)


def stub_cpu_ms(work: EngineWorkload, rows: int = 200) -> float:
    """What the stub itself takes of a core for one query: it looks at the images and draws actions."""
    policy = StubPolicy(work.serving(0.0).stub)
    images = dict.fromkeys(policy.spec.cameras, np.zeros((224, 224, 3), np.uint8))
    began = time.thread_time()
    for i in range(rows):
        policy.infer([Query("t", "i", i, np.zeros(1, np.float32), images)], work.batch_size)
    return 1e3 * (time.thread_time() - began) / rows
