"""The closed loop of one episode.

`play` is a generator: it yields the queries that the policy must answer and receives the replies. The caller decides
where the policy runs, so one process can step through an episode in a debugger, and an env actor can simulate one
environment while another waits for its actions.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from simloop.envs.interface import Env, check_step_result
from simloop.harness.adapters.base import Adapter
from simloop.harness.planning.perturbation import Perturber
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seeding import query_key
from simloop.harness.rollout.camera_frames import CameraFrames, Clock
from simloop.harness.rollout.chunking import ChunkExecutor, RecedingHorizon
from simloop.harness.rollout.latency import Reply, query_record, split_call
from simloop.harness.rollout.observers import Observer, StepRecord
from simloop.harness.rollout.phase_timer import PhaseTimer, PhaseTimers
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.interface import (
    BatchedPolicy,
    Chunk,
    Policy,
    PolicySpec,
    Query,
    batched,
    require_actions,
    require_result,
)
from simloop.results.records.records import EndedBy

Rollout = Generator[Query, Reply, RolloutResult]
"""A running episode: yields queries, receives replies, returns the result."""


def play(
    env: Env,
    spec: EpisodeSpec,
    policy: PolicySpec,
    adapter: Adapter,
    protocol: Protocol,
    observers: Sequence[Observer] = (),
    clock: Clock = time.perf_counter,
    timer: PhaseTimer | None = None,
) -> Rollout:
    """Play an episode from its initial state to success, the step limit or undecodable tokens.

    Yields each query and expects its `Reply` to be sent. Close the generator if no reply will come.

    Args:
      clock: Measures latencies, in seconds.
      timer: Records the phase that the episode is in.

    Raises:
      PolicyError: If the policy answers with something else than a chunk of the promised shape.
      EnvError: If the environment gives something else than the promised observations.
      Exception: Any error of the environment. An episode that broke has no outcome.
    """
    episode = _Episode(env, spec, policy, adapter, protocol, observers, clock, timer or PhaseTimers().enter())
    return episode.play()


@dataclass
class _Episode:
    """The state of a running episode."""

    env: Env
    spec: EpisodeSpec
    policy: PolicySpec
    adapter: Adapter
    protocol: Protocol
    observers: Sequence[Observer]
    clock: Clock
    timer: PhaseTimer

    def __post_init__(self) -> None:
        self.max_steps = self.protocol.max_steps or self.env.spec.max_steps
        self.executor: ChunkExecutor = RecedingHorizon(self.protocol.replan_steps)
        self.frames = CameraFrames(self.env, self.protocol.render, self.clock, self.timer)
        self.perturber = Perturber(self.protocol.perturbation, self.spec.key)
        self.actions_hash = hashlib.sha256()
        self.result = RolloutResult()

    def play(self) -> Rollout:
        started, result = self.clock(), self.result
        with contextlib.ExitStack() as stack:
            for observer in self.observers:
                stack.callback(observer.close)
            with self.timer.span("reset"):
                self.env.reset(self.spec.seed)
            for observer in self.observers:
                observer.on_reset(self.frames, self.env)
            ended_by: EndedBy | None = None
            while ended_by is None:
                if self.executor.wants_query(result.steps):
                    reply = yield from self._query()
                    if reply.chunk.undecodable is not None and self.protocol.undecodable == "end_episode":
                        ended_by = "undecodable"
                        break
                ended_by = self._step()
            state = np.ascontiguousarray(self.env.snapshot(), "<f8")
            result.ended_by = ended_by
            result.actions_sha256 = self.actions_hash.hexdigest()
            result.final_state_sha256 = hashlib.sha256(state.tobytes()).hexdigest()
            result.renders = self.frames.renders
            result.wall_s = self.clock() - started
            for observer in self.observers:
                observer.on_end(result)
        return result

    def _query(self) -> Generator[Query, Reply, Reply]:
        """Query the policy, and schedule the actions of its chunk."""
        result, clock = self.result, self.clock
        index = len(result.queries)
        cameras = [self.adapter.cameras[name] for name in self.policy.cameras]
        images = {camera: self.frames[camera] for camera in cameras}
        rendered = clock()
        query = self.adapter.query(
            self.env,
            self.policy,
            images,
            self.env.spec.instruction,
            key=query_key(self.spec.key, index),
            episode="/".join(map(str, self.spec.id)),
            step=result.steps,
        )
        query = self.perturber.query(query, index)
        asked = clock()
        with self.timer.span("query"):
            reply = yield query
        answered = clock()
        actions = self._executable(reply.chunk)
        result.queries.append(
            query_record(
                index,
                reply,
                render_s=sum(map(self.frames.seconds, images), 0.0),
                adapt_s=asked - rendered + clock() - answered,
                ask_s=answered - asked,
                turn_s=0.0 if reply.arrived_at is None else answered - reply.arrived_at,
            )
        )
        result.undecodable += reply.chunk.undecodable is not None
        self.executor.accept(actions, result.steps)
        for observer in self.observers:
            observer.on_query(query, reply)
        return reply

    def _executable(self, chunk: Chunk) -> np.ndarray:
        """Convert a chunk to the suite's actions; one that could not be decoded holds the robot still."""
        task, actions = self.env.spec, chunk.actions
        if chunk.undecodable is not None:
            actions = np.zeros((self.policy.chunk_steps, task.action_size), np.float32)
        require_actions(self.policy, actions, task.action_size)
        return self.adapter.actions(task, actions.astype(np.float32, copy=False))

    def _step(self) -> EndedBy | None:
        """Execute one action; returns how the episode ended, or None."""
        result = self.result
        action, chunk_index, index_in_chunk = self.executor.action(result.steps)
        executed = self.perturber.action(self.env.spec, action, result.steps)
        with self.timer.span("step"):
            outcome = self.env.step(executed)
        check_step_result(self.env.spec, outcome)
        self.frames.clear()
        self.actions_hash.update(np.ascontiguousarray(executed, "<f4").tobytes())
        result.steps += 1
        result.reward += outcome.reward
        ended_by: EndedBy | None = None
        if outcome.success:
            ended_by = "success"
        elif result.steps >= self.max_steps:
            ended_by = "step_limit"
        record = StepRecord(
            step=result.steps - 1,
            action=action,
            executed=executed,
            chunk_index=chunk_index,
            index_in_chunk=index_in_chunk,
            reward=outcome.reward,
            success=outcome.success,
            ended=ended_by is not None,
            frames=self.frames,
        )
        for observer in self.observers:
            observer.on_step(record)
        return ended_by


def run_episode(
    env: Env,
    spec: EpisodeSpec,
    policy: Policy | BatchedPolicy,
    adapter: Adapter,
    protocol: Protocol,
    observers: Sequence[Observer] = (),
) -> RolloutResult:
    """Play an episode with a policy in this process, without Ray."""
    policy = batched(policy)
    with contextlib.closing(play(env, spec, policy.spec, adapter, protocol, observers)) as episode:
        try:
            query = next(episode)
            while True:
                query = episode.send(ask_here(policy, query))
        except StopIteration as stop:
            result: RolloutResult = stop.value
            return result


def ask_here(policy: BatchedPolicy, query: Query) -> Reply:
    """Answer one query with a policy of this process."""
    began = time.perf_counter()
    answer = policy.infer([query], batch_size=1)
    call_s = time.perf_counter() - began
    require_result(policy.spec, answer, 1)
    return Reply(answer.chunks[0], *split_call(answer, call_s))
