"""One episode, closed-loop. Plain Python: no Ray, no files, no threads.

`play` is a generator: it yields the queries that the policy must answer and is sent the replies.
Whoever drives it decides where the policy runs, so that one process can step through an episode
in a debugger, and an actor can step one simulator while another waits for its actions.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol as Interface
from typing import runtime_checkable

import numpy as np

from simloop.envs.interface import Env
from simloop.harness.adapters.base import Adapter
from simloop.harness.planning.perturbation import Perturber
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seeding import query_key
from simloop.harness.rollout.phase_timer import PhaseTimer, PhaseTimers
from simloop.policies.interface import BatchedPolicy, Chunk, PolicySpec, Query
from simloop.results.records.records import EndedBy, EpisodeRecord, QueryRecord

Clock = Callable[[], float]


@dataclass(frozen=True)
class Reply:
    """A policy's answer to one query, with where the time went (seconds)."""

    chunk: Chunk
    host_s: float = 0.0
    device_s: float = 0.0
    post_s: float = 0.0
    queue_s: float = 0.0
    transport_s: float = 0.0
    batch: int = 1
    batch_size: int = 1


class CameraFrames:
    """The cameras of an environment, each drawn at most once between two steps."""

    def __init__(self, env: Env, clock: Clock = time.perf_counter, place: PhaseTimer | None = None):
        self._env = env
        self._timer = place or PhaseTimers().place()
        self._clock = clock
        self._drawn: dict[str, np.ndarray] = {}
        self._seconds: dict[str, float] = {}
        self.renders = 0

    def __getitem__(self, camera: str) -> np.ndarray:
        """The camera's image of this moment, uint8 [h, w, 3]."""
        if camera not in self._drawn:
            began = self._clock()
            with self._timer.doing("render"):
                self._drawn[camera] = self._env.render(camera)
            self._seconds[camera] = self._clock() - began
            self.renders += 1
        return self._drawn[camera]

    def seconds(self, camera: str) -> float:
        """How long the camera's image of this moment took to draw, whoever wanted it first."""
        return self._seconds[camera]

    def moved(self) -> None:
        """Forget the images: the scene has changed."""
        self._drawn.clear()
        self._seconds.clear()


@runtime_checkable
class Observer(Interface):
    """Something that watches an episode, such as a video recorder. It may look but not touch."""

    def see(self, frames: CameraFrames, step: int, last: bool) -> None:
        """Called after the reset (step 0) and after every step; `last` when the episode has ended."""


@dataclass
class RolloutResult:
    """What an episode came to, before it is known how often it had to be tried."""

    ended_by: EndedBy = "step_limit"
    steps: int = 0
    undecodable: int = 0
    reward: float = 0.0
    queries: list[QueryRecord] = field(default_factory=list)
    actions_sha256: str = ""
    final_state_sha256: str = ""
    renders: int = 0
    wall_s: float = 0.0

    def record(self, spec: EpisodeSpec, policy: PolicySpec, *, attempts: int, video: str) -> EpisodeRecord:
        """The row that goes into the ledger."""
        return EpisodeRecord(
            policy=spec.policy,
            weights=policy.weights,
            suite=spec.suite,
            protocol=spec.protocol,
            task=spec.task,
            episode=spec.episode,
            seed=spec.seed,
            outcome="success" if self.ended_by == "success" else "failure",
            ended_by=self.ended_by,
            steps=self.steps,
            queries=len(self.queries),
            undecodable=self.undecodable,
            reward=self.reward,
            attempts=attempts,
            error="",
            actions_sha256=self.actions_sha256,
            final_state_sha256=self.final_state_sha256,
            wall_s=self.wall_s,
            video=video,
        )


def play(
    env: Env,
    spec: EpisodeSpec,
    policy: PolicySpec,
    adapter: Adapter,
    protocol: Protocol,
    observers: Sequence[Observer] = (),
    clock: Clock = time.perf_counter,
    place: PhaseTimer | None = None,
) -> Generator[Query, Reply, RolloutResult]:
    """Play an episode from its initial state to success, the step limit or undecodable tokens.

    Yields each query and wants its `Reply` sent. Whatever the environment raises passes through:
    an episode that broke has no outcome. `place` is told what is being done.
    """
    place = place or PhaseTimers().place()
    task = env.spec
    max_steps = protocol.max_steps or task.max_steps
    played = RolloutResult()
    actions_hash = hashlib.sha256()
    frames = CameraFrames(env, clock, place)
    perturber = Perturber(protocol.perturbation, spec.key)
    started = clock()
    with place.doing("reset"):
        env.reset(spec.seed)
    for observer in observers:
        observer.see(frames, 0, False)

    ended_by: EndedBy | None = None
    while ended_by is None:
        images = {camera: frames[camera] for camera in map(adapter.cameras.__getitem__, policy.cameras)}
        render_s = sum(map(frames.seconds, images), 0.0)
        rendered = clock()
        index = len(played.queries)
        query = adapter.query(env, policy, images, task.instruction, query_key(spec.key, index))
        query = perturber.query(query, index)
        adapted = clock()
        with place.doing("query"):
            reply = yield query
        answered = clock()
        actions: Sequence[np.ndarray] = list(reply.chunk.actions[: protocol.replan_steps])
        if reply.chunk.undecodable is not None:
            played.undecodable += 1
            if protocol.undecodable == "end_episode":
                ended_by = "undecodable"
            else:
                held = np.zeros(task.action_size, np.float32)
                actions = [held] * min(protocol.replan_steps, policy.chunk_steps)
        actions = [adapter.action(task, row) for row in actions]
        done = clock()
        played.queries.append(
            _latency(index, reply, render_s, adapted - rendered, answered - adapted, done - answered)
        )
        if not actions and ended_by is None:
            raise ValueError(f"Policy {policy.name!r} answered query {index} with a chunk of no actions.")

        for intended in actions:
            action = perturber.action(task, intended, played.steps)
            with place.doing("step"):
                result = env.step(action)
            frames.moved()
            actions_hash.update(np.ascontiguousarray(action, "<f4").tobytes())
            played.steps += 1
            played.reward += result.reward
            if result.success:
                ended_by = "success"
            elif played.steps >= max_steps:
                ended_by = "step_limit"
            for observer in observers:
                observer.see(frames, played.steps, ended_by is not None)
            if ended_by is not None:
                break

    played.ended_by = ended_by
    played.actions_sha256 = actions_hash.hexdigest()
    played.final_state_sha256 = hashlib.sha256(
        np.ascontiguousarray(env.snapshot(), "<f8").tobytes()
    ).hexdigest()
    played.renders = frames.renders
    played.wall_s = clock() - started
    return played


def run_episode(
    env: Env,
    spec: EpisodeSpec,
    policy: BatchedPolicy,
    adapter: Adapter,
    protocol: Protocol,
    observers: Sequence[Observer] = (),
) -> RolloutResult:
    """Play an episode with a policy in this process: the whole loop, to be stepped through."""
    episode = play(env, spec, policy.spec, adapter, protocol, observers)
    try:
        query = next(episode)
        while True:
            query = episode.send(ask_here(policy, query))
    except StopIteration as stop:
        return stop.value


def ask_here(policy: BatchedPolicy, query: Query) -> Reply:
    """Ask a policy of this process one question."""
    answer = policy.infer([query], batch_size=1)
    return Reply(answer.chunks[0], host_s=answer.host_s, device_s=answer.device_s, post_s=answer.post_s)


def _latency(
    index: int, reply: Reply, render_s: float, before_s: float, asking_s: float, after_s: float
) -> QueryRecord:
    """One row of latencies; the time between question and reply that no stage accounts for is adapting."""
    stages_s = reply.transport_s + reply.queue_s + reply.host_s + reply.device_s + reply.post_s
    adapt_s = before_s + max(0.0, asking_s - stages_s) + after_s

    def ms(seconds: float) -> float:
        return round(1e3 * seconds, 4)

    return QueryRecord(
        index=index,
        render_ms=ms(render_s),
        adapt_ms=ms(adapt_s),
        transport_ms=ms(reply.transport_s),
        queue_ms=ms(reply.queue_s),
        host_ms=ms(reply.host_s),
        device_ms=ms(reply.device_s),
        post_ms=ms(reply.post_s),
        total_ms=ms(render_s + adapt_s + stages_s),
        batch=reply.batch,
        bucket=reply.batch_size,
    )
