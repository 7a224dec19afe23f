"""The closed loop of one episode.

`play` is a generator: it yields the queries that the policy must answer and receives the replies. The caller decides
where the policy runs, so an env actor can simulate one environment while another waits for its actions. `Episode` also
pauses between steps, for debuggers.

Axis letters: h image height, w image width.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from simloop.envs.checks import check_step_result
from simloop.envs.interface import Env, Instruction
from simloop.harness.adapters.base import Adapter
from simloop.harness.planning.changes import Changes
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seeding import query_key
from simloop.harness.rollout.camera_frames import CameraFrames, Clock
from simloop.harness.rollout.chunking import (
    ChunkExecutor,
    ScheduledAction,
    hold_action,
    make_executor,
    require_executable,
)
from simloop.harness.rollout.delays import EpisodeDelays
from simloop.harness.rollout.latency import Reply, query_record, reply_from
from simloop.harness.rollout.loop_state import EpisodeState, LoopState
from simloop.harness.rollout.motion import motion
from simloop.harness.rollout.observers import Observer, StepRecord
from simloop.harness.rollout.perturber import Perturber
from simloop.harness.rollout.phase_timer import PhaseTimer, PhaseTimers
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.interface import (
    BatchedPolicy,
    Chunk,
    Guidance,
    GuidanceMethod,
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

Moments = Generator[Query | None, Reply | None, RolloutResult]
"""As `Rollout`; also yields None between steps, where the episode may be saved or changed."""


def play(
    env: Env,
    spec: EpisodeSpec,
    policy: PolicySpec,
    adapter: Adapter,
    protocol: Protocol,
    observers: Sequence[Observer] = (),
    clock: Clock = time.perf_counter,
    timer: PhaseTimer | None = None,
    start: EpisodeState | None = None,
) -> Rollout:
    """Play an episode from its initial state to success, the step limit, undecodable tokens or an invalid action.

    Yields each query and expects its `Reply` to be sent. Close the generator if no reply will come.

    Args:
      start: A saved moment of the episode to continue from, instead of its initial state.
      clock: Measures latencies, in seconds.
      timer: Records the phase that the episode is in.

    Raises:
      PolicyError: If the policy answers with something else than a chunk of the promised shape.
      EnvError: If the environment gives something else than the promised observations.
      Exception: Any error of the environment. An episode that broke has no outcome.
    """
    episode = Episode(env, spec, policy, adapter, protocol, observers, clock, timer, start)
    with contextlib.closing(episode.moments()) as moments:
        reply: Reply | None = None
        try:
            while True:
                query = moments.send(reply)
                reply = None if query is None else (yield query)
        except StopIteration as stop:
            result: RolloutResult = stop.value
            return result


@dataclass
class Episode:
    """A running episode. Its arguments are those of `play`."""

    env: Env
    spec: EpisodeSpec
    policy: PolicySpec
    adapter: Adapter
    protocol: Protocol
    observers: Sequence[Observer] = ()
    clock: Clock = time.perf_counter
    timer: PhaseTimer | None = None
    start: EpisodeState | None = None

    def __post_init__(self) -> None:
        changes = self.spec.fork.changes if self.spec.fork else Changes()
        self.protocol = changes.protocol(self.protocol)
        self.protocol = self.spec.protocol_of(self.protocol)
        loop = self.start.loop if self.start else LoopState(np.zeros((0, self.env.spec.action_size), "<f4"))
        self._timer = self.timer or PhaseTimers().enter()
        self.max_steps = self.protocol.max_steps or self.env.spec.max_steps
        self.perturber = Perturber(self.protocol.perturbations, self.spec.key, self.protocol.paraphrases)
        self.env.look(self.perturber.look(self.env.spec.cameras))
        execution, replan_steps = self.protocol.execution, self.protocol.replan_steps
        require_executable(execution, replan_steps, self.policy, self.env.spec)
        self.executor: ChunkExecutor = make_executor(execution, replan_steps, self.env.spec, loop.chunk)
        self.delays = EpisodeDelays(execution, self.env.spec.control_hz)
        self.frames = CameraFrames(self.env, self.protocol.render, self.clock, self._timer)
        self.executed = list(loop.executed)
        self._requested = list(loop.requested if len(loop.requested) == loop.steps else loop.executed)
        self._origins = list(loop.origins)
        self._answer = (np.zeros((0, self.policy.action_size or self.env.spec.action_size), np.float32), 0)
        self.result = RolloutResult(
            steps=loop.steps,
            reward=loop.reward,
            undecodable=loop.undecodable,
            queries=list(loop.queries),
        )
        self._instruct(self.env.spec.instruction_from(self.protocol.prompt_source))

    def _instruct(self, prompt: Instruction) -> None:
        """Choose the instruction of the episode: that of the fork, else this one, which the perturber may reword."""
        changed = self.spec.fork.changes.prompt if self.spec.fork else None
        reworded = self.perturber.instruction(prompt.text)
        self.instruction = reworded if changed is None else changed
        source = prompt.source if reworded == prompt.text else "paraphrase"
        self.result.prompt_source = source if changed is None else "changed"

    def save(self) -> EpisodeState:
        """Everything that the rest of the episode depends on; valid while `moments` pauses between steps."""
        result = self.result
        executed, requested = (
            np.array(actions, np.float32).reshape(-1, self.env.spec.action_size)
            for actions in (self.executed, self._requested if self.perturber.delay else ())
        )
        loop = LoopState(
            executed,
            result.reward,
            result.undecodable,
            tuple(result.queries),
            self.executor.chunk,
            tuple(self._origins),
            requested,
        )
        return EpisodeState(self.env.save(), loop)

    def images(self) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
        """Images of the policy's cameras as the suite draws them, by camera of the suite."""
        cameras = [self.adapter.cameras[name] for name in self.policy.cameras]
        return {camera: self.frames[camera] for camera in cameras}

    def query(self, images: Mapping[str, UInt8[np.ndarray, "h w 3"]]) -> Query:
        """Make of these images the query that the policy receives at the present moment."""
        query = self.adapter.query(
            self.env,
            self.policy,
            images,
            self.instruction,
            key=query_key(self.spec.key, len(self.result.queries)),
            episode="/".join(map(str, self.spec.id)),
            step=self.result.steps,
        )
        if (method := self.protocol.execution.guidance) is not None:
            query = dataclasses.replace(query, guidance=self._guidance(method))
        return self.perturber.query(query, self.result.steps)

    def _guidance(self, method: GuidanceMethod) -> Guidance:
        """What is left of the last chunk in robot units, and when the next one is expected to take effect."""
        left, asked = self._answer
        return Guidance(left[self.result.steps - asked :], self.delays.expected(), method)

    def moments(self) -> Moments:
        """Play the episode as `play` does, with a pause before every query and every step."""
        started, result = self.clock(), self.result
        with contextlib.ExitStack() as stack:
            for observer in self.observers:
                stack.callback(observer.close)
            self._begin()
            ended_by: EndedBy | None = None
            while ended_by is None:
                yield None
                if self.executor.wants_query(result.steps):
                    reply = yield from self._query()
                    if reply.chunk.undecodable is not None and self.protocol.undecodable == "end_episode":
                        ended_by = "undecodable"
                        break
                    continue
                ended_by = self._step()
            state = np.ascontiguousarray(self.env.snapshot(), "<f8")
            result.ended_by = ended_by
            result.actions_sha256 = hashlib.sha256(np.array(self.executed, "<f4").tobytes()).hexdigest()
            result.final_state_sha256 = hashlib.sha256(state.tobytes()).hexdigest()
            self._measure_motion()
            result.renders = self.frames.renders
            result.wall_s = self.clock() - started
            for observer in self.observers:
                observer.on_end(result)
        return result

    def _measure_motion(self) -> None:
        """Add the ages of actions, and how smoothly they moved the robot, to the result."""
        chunks = [chunk for chunk, _ in self._origins]
        ages = [age for chunk, age in self._origins if chunk >= 0]
        self.result.age_steps = float(np.mean(ages)) if ages else 0.0
        self.result.jerk, self.result.seam_jump = motion(
            np.array(self.executed, np.float32), chunks, self.env.spec
        )

    def _begin(self) -> None:
        """Put the environment into the initial state, or into that of `start`."""
        with self._timer.span("reset"):
            if self.start is None:
                self.env.reset(self.spec.seed)
            else:
                self.env.restore(self.start.env)
            for move in self.spec.fork.changes.moves if self.spec.fork else ():
                self.env.move(move.thing, move.offset_m)
        own = self.env.instruction()
        if own is not None and self.protocol.prompt_source == "suite":
            self._instruct(Instruction("episode", own))
        for observer in self.observers:
            observer.on_reset(self.frames, self.env)

    def _query(self) -> Generator[Query, Reply | None, Reply]:
        """Query the policy, and schedule the actions of its chunk."""
        result, clock = self.result, self.clock
        index = len(result.queries)
        images = self.images()
        rendered = clock()
        query = self.query(images)
        asked = clock()
        with self._timer.span("query"):
            reply = yield query
            assert reply is not None, "A query is answered with a Reply."
        answered = clock()
        actions = self._executable(reply.chunk)
        self._answer = (np.asarray(reply.chunk.actions, np.float32), result.steps)
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
        self.executor.accept(actions, result.steps, self.delays.of(query.key, result.queries[-1]))
        for observer in self.observers:
            observer.on_query(query, reply)
        return reply

    def _executable(self, chunk: Chunk) -> np.ndarray:
        """Convert a chunk to the suite's actions; one that could not be decoded holds the robot still."""
        task, actions = self.env.spec, chunk.actions
        if chunk.undecodable is not None:
            steps = self.policy.chunk_steps or self.protocol.replan_steps
            actions = np.zeros((steps, task.action_size), np.float32)
        require_actions(self.policy, actions, task.action_size)
        executable = self.adapter.actions(task, actions.astype(np.float32, copy=False))
        # Clipping to the bounds of the task would hide infinite numbers.
        executable[~np.isfinite(actions).all(axis=1)] = np.nan
        return executable

    def _step(self) -> EndedBy | None:
        """Execute one action; returns how the episode ended, or None."""
        result = self.result
        scheduled = self.executor.action(result.steps)
        if scheduled is None:
            last = self.executed[-1] if self.executed else None
            scheduled = ScheduledAction(hold_action(self.env.spec, last), -1, -1)
            result.held += 1
        action, chunk_index, index_in_chunk, age = scheduled
        if not np.isfinite(action).all():
            return "invalid_action"
        self._requested.append(action)
        executed = self.perturber.action(
            self.env.spec, self._requested, self.executed[-1] if self.executed else None
        )
        with self._timer.span("step"):
            outcome = self.env.step(executed)
        check_step_result(self.env.spec, outcome)
        self.frames.clear()
        self.executed.append(executed)
        self._origins.append((chunk_index, age))
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
    batch_size: int = 1,
    start: EpisodeState | None = None,
) -> RolloutResult:
    """Play an episode with a policy in this process, without Ray.

    Args:
      batch_size: Rows of each call of the policy; that of a run gives the answers of the run, bit for bit.
      start: A saved moment to continue from.
    """
    policy = batched(policy)
    with contextlib.closing(
        play(env, spec, policy.spec, adapter, protocol, observers, start=start)
    ) as episode:
        try:
            query = next(episode)
            while True:
                query = episode.send(ask_here(policy, query, batch_size=batch_size))
        except StopIteration as stop:
            result: RolloutResult = stop.value
            return result


def ask_here(policy: BatchedPolicy, query: Query, batch_size: int = 1) -> Reply:
    """Answer one query with a policy of this process, padded to `batch_size` rows."""
    began = time.perf_counter()
    answer = policy.infer([query], batch_size)
    call_s = time.perf_counter() - began
    require_result(policy.spec, answer, 1)
    return reply_from(answer.chunks[0], answer, call_s)
