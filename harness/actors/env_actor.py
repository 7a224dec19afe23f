"""The Ray actor of simulators: a thin shell around the rollout."""

from __future__ import annotations

import asyncio
import errno
import traceback
from dataclasses import dataclass
from typing import Any

import ray

from simloop.envs.interface import Env, RenderSettings
from simloop.harness.actors.factories import Factories
from simloop.harness.actors.heartbeat import Activity, EnvActorHeartbeat, process_heartbeat
from simloop.harness.actors.policy_client import Workers, this_node
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.loop import Reply, RolloutResult, ask_here, play
from simloop.harness.rollout.phase_timer import PhaseTimer, PhaseTimers
from simloop.harness.rollout.video import VideoRecorder
from simloop.policies.interface import BatchedPolicy, PolicySpec, Query

MOST_AT_ONCE = 256
MEETING_S = 60.0  # For what is told of a policy to arrive, should Ray deliver an episode before it.
UNFIT = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of the system that the next episode of the same process would meet as well."""


@dataclass(frozen=True)
class VideoSettings:
    """Which cameras are filmed, and how often."""

    cameras: tuple[str, ...]
    every: int


@dataclass
class EpisodeResult:
    """What came back from one attempt at an episode."""

    spec: EpisodeSpec
    played: RolloutResult | None
    error: str = ""
    """One line: what was raised, and where. Empty if the episode was played to its end."""
    trace: str = ""
    video: bytes | None = None
    recording: bytes | None = None
    unfit: bool = False
    """Whether the process that played it should play no other."""


class Environments:
    """The live simulations of a process: no more than episodes under way, each kept for the next of its task."""

    def __init__(self, sources: Factories, render: RenderSettings):
        self._sources = sources
        self._render = render
        self._idle: list[Env] = []
        self.alive = 0

    def take(self, suite: str, task: str, place: PhaseTimer) -> Env:
        """One that nobody else has."""
        for env in self._idle:
            if (env.spec.suite, env.spec.name) == (suite, task):
                self._idle.remove(env)
                return env
        if self._idle:
            self.close(self._idle.pop(0))
        with place.doing("make"):
            env = self._sources.env(suite, task, self._render)
        self.alive += 1
        return env

    def give_back(self, env: Env) -> None:
        """Keep it for another episode."""
        self._idle.append(env)

    def close(self, env: Env) -> None:
        """End a simulation, also a broken one."""
        self.alive -= 1
        try:
            env.close()
        except Exception as error:
            print(f"Closing a broken simulation failed as well: {_one_line(error)}")


class EnvActor:
    """Plays episodes, as many at a time as it is asked to: one is simulated while others wait for actions.

    Everything happens in one thread, which is what simulators and their renderers want.
    """

    def __init__(self, protocol: Protocol, video: VideoSettings | None, sources: Factories):
        self._protocol = protocol
        self._video = video
        self._sources = sources
        self._environments = Environments(sources, protocol.render)
        self._met: dict[str, tuple[PolicySpec, tuple[Any, ...]]] = {}
        self._policies: dict[str, BatchedPolicy] = {}
        self._timers = PhaseTimers()
        self._workers = Workers(self._timers)
        self._slots: dict[int, PhaseTimer] = {}

    async def meet(self, name: str, policy: PolicySpec, workers: tuple[Any, ...] = ()) -> None:
        """Be told of a policy before its first episode, and again when it has more workers.

        Once, and not with every episode: Ray counts who has handles of actors, which made a call a third dearer.

        Args:
          name: Of the policy, as episodes name it.
          workers: Ray handles of the policy; none where it answers in this process.
        """
        self._met[name] = policy, workers

    async def play(self, spec: EpisodeSpec, attempt_id: int = 0) -> EpisodeResult:
        """Play an episode to its end. Whatever breaks in it comes back as an error, not as an exception.

        Args:
          ticket: By which `heartbeat` tells what this episode is doing.
        """
        async with asyncio.timeout(MEETING_S):
            while spec.policy not in self._met:
                await asyncio.sleep(0.01)
        place = self._slots[attempt_id] = self._timers.place()
        try:
            return await self._play(spec, *self._met[spec.policy], place)
        finally:
            del self._slots[attempt_id]
            self._timers.leave()

    async def _play(
        self, spec: EpisodeSpec, policy: PolicySpec, workers: tuple[Any, ...], place: PhaseTimer
    ) -> EpisodeResult:
        env: Env | None = None
        try:
            env = self._environments.take(spec.suite, spec.task, place)
            recorder = (
                VideoRecorder(self._video.cameras, self._video.every, env.spec.control_hz)
                if self._video
                else None
            )
            episode = play(
                env,
                spec,
                policy,
                self._sources.adapter(spec.suite, policy),
                self._protocol,
                [recorder] if recorder else [],
                place=place,
            )
            recording = self._sources.recording(spec) if self._sources.recording else None
            query = next(episode)
            while True:
                if workers:
                    reply = await self._workers.ask(workers, query)
                else:
                    await asyncio.sleep(0)  # Others may have been answered.
                    reply = self._ask_here(policy.name, query)
                if recording:
                    recording.answered(query, reply)
                query = episode.send(reply)
        except StopIteration as stop:
            assert env is not None
            self._environments.give_back(env)
            return EpisodeResult(
                spec,
                stop.value,
                video=recorder.finish() if recorder else None,
                recording=recording.finish(stop.value) if recording else None,
            )
        except Exception as error:
            if env is not None:
                self._environments.close(env)
            return EpisodeResult(
                spec, None, error=_one_line(error), trace=traceback.format_exc(), unfit=_makes_unfit(error)
            )

    def _ask_here(self, name: str, query: Query) -> Reply:
        if name not in self._policies:
            self._policies[name] = self._sources.policy(name)
        return ask_here(self._policies[name], query)

    @ray.method(concurrency_group="health")
    async def heartbeat(self) -> EnvActorHeartbeat:
        """What it is doing. Answered by another thread than that which simulates."""
        process = process_heartbeat(this_node())
        doing = tuple(
            Activity(attempt_id, place.phase, max(0.0, process.clock_s - place.since))
            for attempt_id, place in list(self._slots.items())
        )
        return EnvActorHeartbeat(
            process,
            doing,
            self._timers.read(),
            self._timers.idle_s(),
            self._environments.alive,
            self._workers.bytes_sent,
        )


def _makes_unfit(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in UNFIT)


def _one_line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = (
        f" ({frames[-1].name} in {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})"
        if frames
        else ""
    )
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def start_env_actor(protocol: Protocol, video: VideoSettings | None, sources: Factories) -> Any:
    """A simulator actor on one CPU; several nodes are filled evenly."""
    options = {"num_cpus": 1, "max_restarts": 0, "max_concurrency": MOST_AT_ONCE}
    actor = ray.remote(concurrency_groups={"health": 1})(EnvActor)
    return actor.options(**options, scheduling_strategy="SPREAD").remote(protocol, video, sources)
