"""The Ray actor that simulates environments: a thin shell around the rollout."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from simloop.envs import registry
from simloop.envs.interface import Env, RenderSettings
from simloop.envs.served.process import usage
from simloop.harness.actors.factories import Factories
from simloop.harness.actors.heartbeat import Activity, EnvActorHeartbeat, process_heartbeat
from simloop.harness.actors.worker_client import WorkerClient, this_node
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.loop import play
from simloop.harness.rollout.observers import Recorder
from simloop.harness.rollout.phase_timer import PhaseTimer, PhaseTimers
from simloop.harness.rollout.result import RolloutResult
from simloop.harness.rollout.video import VideoRecorder
from simloop.harness.serving.policy_client import InProcessClient, LeastWaiting, PolicyClient
from simloop.policies.interface import PolicySpec

MAX_CONCURRENCY = 256
INTRODUCTION_S = 60.0  # For `meet` to arrive if Ray delivers an episode first.
RESOURCE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of the operating system that the next episode of the same process would meet as well."""


@dataclass(frozen=True)
class VideoSettings:
    """Which cameras are recorded, and how often."""

    cameras: tuple[str, ...]
    """Camera names of the suite, left to right."""
    every: int
    """Control steps between two frames."""
    height: int | None = None
    """Pixels to which images are scaled; None to leave them as they are rendered."""


@dataclass
class EpisodeResult:
    """What one attempt at an episode brought back."""

    spec: EpisodeSpec
    played: RolloutResult | None
    """None if the attempt broke."""
    error: str = ""
    """Type, message and place of the exception in one line; empty if the episode was played to its end."""
    trace: str = ""
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the recorders, by name; of a broken attempt, what was recorded until then."""
    unfit: bool = False
    """Whether the process must play no further episodes."""


class EnvCache:
    """The live environments of a process, each kept for the next episode of its task.

    There are never more of them than episodes under way.
    """

    def __init__(self, factories: Factories, render: RenderSettings):
        self._factories = factories
        self._render = render
        self._idle: list[Env] = []
        self.alive = 0
        self.first_bytes = 0
        """See `EnvActorHeartbeat`."""

    def take(self, suite: str, task: str, timer: PhaseTimer) -> Env:
        """Return an idle environment of the task, or make one in place of another idle one."""
        for env in self._idle:
            if (env.spec.suite, env.spec.name) == (suite, task):
                self._idle.remove(env)
                return env
        if self._idle:
            self.close(self._idle.pop(0))
        if self.alive == 1:
            self.first_bytes = usage().rss_bytes
        with timer.span("make"):
            env = self._factories.env(suite, task, self._render)
        self.alive += 1
        return env

    def give_back(self, env: Env) -> None:
        """Keep an environment for another episode."""
        self._idle.append(env)

    def close(self, env: Env) -> None:
        """Close an environment, which may be broken."""
        self.alive -= 1
        with contextlib.suppress(Exception):
            env.close()


class EnvActor:
    """Play episodes, several at a time: one environment is simulated while others wait for actions.

    Everything runs in one thread, as simulators and their renderers require.
    """

    def __init__(self, protocol: Protocol, video: VideoSettings | None, factories: Factories):
        self._protocol = protocol
        self._video = video
        self._factories = factories
        self._envs = EnvCache(factories, protocol.render)
        self._policies: dict[str, tuple[PolicySpec, PolicyClient]] = {}
        self._workers: dict[str, WorkerClient] = {}
        self._timers = PhaseTimers()
        self._slots: dict[int, PhaseTimer] = {}
        threading.Thread(target=_import_ahead, args=(protocol.suite,), daemon=True).start()

    async def meet(self, name: str, policy: PolicySpec, workers: tuple[Any, ...] = ()) -> None:
        """Learn about a policy before its first episode, and again when it has more workers.

        Not an argument of `play`: Ray counts references to actor handles, which made a call a third slower.

        Args:
          name: Name of the policy in episodes.
          workers: Ray handles of its policy workers; none if it answers in this process.
        """
        clients = [self._workers.setdefault(w._actor_id.hex(), WorkerClient(w)) for w in workers]
        _, client = self._policies.get(name, (None, None))
        if isinstance(client, LeastWaiting):
            client.clients = clients
        elif client is None:
            client = (
                LeastWaiting(clients) if workers else InProcessClient(lambda: self._factories.policy(name))
            )
        self._policies[name] = policy, client

    async def play(self, spec: EpisodeSpec, attempt_id: int = 0) -> EpisodeResult:
        """Play an episode to its end. Errors are part of the result, never raised.

        Args:
          attempt_id: Identifies the episode in `heartbeat`.
        """
        async with asyncio.timeout(INTRODUCTION_S):
            while spec.policy not in self._policies:
                await asyncio.sleep(0.01)
        timer = self._slots[attempt_id] = self._timers.enter()
        try:
            return await self._play(spec, *self._policies[spec.policy], timer)
        finally:
            del self._slots[attempt_id]
            self._timers.leave()

    async def _play(
        self, spec: EpisodeSpec, policy: PolicySpec, client: PolicyClient, timer: PhaseTimer
    ) -> EpisodeResult:
        env: Env | None = None
        recorders: list[Recorder] = []
        try:
            env = self._envs.take(spec.suite, spec.task, timer)
            adapter = self._factories.adapter(spec, policy)
            recorders = self._recorders(spec, env)
            start = self._factories.start(spec)
            episode = play(env, spec, policy, adapter, self._protocol, recorders, timer=timer, start=start)
            with contextlib.closing(episode):
                query = next(episode)
                while True:
                    query = episode.send(await client.ask(query))
        except StopIteration as stop:
            assert env is not None
            self._envs.give_back(env)
            return EpisodeResult(spec, stop.value, attachments=_attachments(recorders))
        except (
            Exception,
            SystemExit,
            KeyboardInterrupt,
        ) as error:  # `sys.exit` of a library ends no process.
            if env is not None:
                self._envs.close(env)
            return EpisodeResult(
                spec,
                None,
                error=_one_line(error),
                trace=traceback.format_exc(),
                attachments=_attachments(recorders),
                unfit=_makes_unfit(error),
            )

    def _recorders(self, spec: EpisodeSpec, env: Env) -> list[Recorder]:
        """Start the video and the recording of an episode, where they are wanted."""
        recorders: list[Recorder] = []
        if (video := self._video) is not None:
            limit = self._protocol.max_steps or env.spec.max_steps
            recorders.append(
                VideoRecorder(spec, video.cameras, video.every, env.spec.control_hz, limit, video.height)
            )
        if self._factories.recorder is not None:
            recorders.append(self._factories.recorder(spec))
        if self._factories.live_view is not None:
            recorders.append(self._factories.live_view(spec))
        return recorders

    @ray.method(concurrency_group="health")
    async def heartbeat(self) -> EnvActorHeartbeat:
        """Report what the process is doing. Runs in a thread of its own, beside the simulating one."""
        process = process_heartbeat(this_node())
        doing = tuple(
            Activity(attempt_id, timer.phase, max(0.0, process.clock_s - timer.since))
            for attempt_id, timer in list(self._slots.items())
        )
        clients = list(self._workers.values())
        return EnvActorHeartbeat(
            process,
            doing,
            self._timers.read(),
            self._timers.idle_s(),
            self._envs.alive,
            self._envs.first_bytes,
            sum(client.bytes_sent for client in clients),
            next((why for client in clients if (why := client.without_shared_memory)), ""),
        )


def _import_ahead(suite: str) -> None:
    """Import what environments of a suite need while policy workers load; what fails, fails again in an episode."""
    with contextlib.suppress(Exception):
        if module := registry.suite(suite).module:
            importlib.import_module(module)


def _attachments(recorders: Sequence[Recorder]) -> dict[str, bytes]:
    return {name: content for recorder in recorders for name, content in recorder.attachments.items()}


def _makes_unfit(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in RESOURCE_ERRORS)


def _one_line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = ""
    if frames:
        place = f" ({frames[-1].name} in {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})"
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def start_env_actor(protocol: Protocol, video: VideoSettings | None, factories: Factories) -> Any:
    """Start an env actor on one CPU; Ray spreads actors evenly over nodes. Returns its handle."""
    options = {"num_cpus": 1, "max_restarts": 0, "max_concurrency": MAX_CONCURRENCY}
    actor = ray.remote(concurrency_groups={"health": 1})(EnvActor)
    return actor.options(**options, scheduling_strategy="SPREAD").remote(protocol, video, factories)
