"""Ray actors: simulators on CPUs, policies on GPUs. Thin shells around the rollout and the batcher."""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import os
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray

from envs import registry
from envs.interface import Env, RenderSettings
from harness.adapters.registry import find_adapter
from harness.batching import Batcher
from harness.plan import EpisodeSpec
from harness.policy_catalog import load
from harness.protocol import Protocol
from harness.rollout import Played, Reply, ask_here, play
from harness.video import VideoRecorder
from policies.interface import Answer, Policy, PolicySpec, Query


def make_env(suite: str, task: str, render: RenderSettings) -> Env:
    """A simulation of a registered task."""
    return registry.suite(suite).make(task, render)


class Recording(abc.ABC):
    """Keeps what one episode's policy was asked and answered."""

    @abc.abstractmethod
    def answered(self, query: Query, reply: Reply) -> None:
        """Called after every query, in their order."""

    @abc.abstractmethod
    def finish(self, played: Played) -> bytes:
        """What comes back with the result of an episode that was played to its end."""


@dataclass(frozen=True)
class Sources:
    """Where simulations and policies come from, and what is kept of their conversation."""

    env: Callable[[str, str, RenderSettings], Env] = make_env
    """Starts a simulation of (suite, task)."""
    policy: Callable[[str], Policy] = load
    """Loads a policy by its name in the experiment."""
    recording: Callable[[EpisodeSpec], Recording] | None = None
    """Begins to record an episode; None where nothing but its outcome is wanted."""


REGISTERED = Sources()
"""The suites of `envs.registry` and the policies of `harness.policy_catalog`."""


@dataclass(frozen=True)
class VideoSettings:
    """Which cameras are filmed, and how often."""

    cameras: tuple[str, ...]
    every: int


@dataclass
class EpisodeResult:
    """What came back from one attempt at an episode."""

    spec: EpisodeSpec
    played: Played | None
    error: str = ""
    """One line: what was raised, and where. Empty if the episode was played to its end."""
    trace: str = ""
    video: bytes | None = None
    recording: bytes | None = None


@dataclass(frozen=True)
class WorkerReport:
    """What a policy worker says of itself once it can answer."""

    spec: PolicySpec
    load_s: float
    compile_s: float
    device: str
    fingerprint: dict[str, str]


class EnvActor:
    """Plays episodes, one after another, keeping the simulation of the last task."""

    def __init__(self, protocol: Protocol, video: VideoSettings | None, sources: Sources):
        self._protocol = protocol
        self._video = video
        self._sources = sources
        self._env: Env | None = None
        self._policies: dict[str, Policy] = {}

    async def play(
        self, spec: EpisodeSpec, policy: PolicySpec, worker: Any | None
    ) -> EpisodeResult:  # `worker` is the Ray handle of the policy, None where it answers in this process.
        """Play an episode to its end. Whatever breaks in it comes back as an error, not as an exception."""
        try:
            env = self._env_of(spec)
            recorder = (
                VideoRecorder(self._video.cameras, self._video.every, env.spec.control_hz)
                if self._video
                else None
            )
            episode = play(
                env,
                spec,
                policy,
                find_adapter(spec.suite, policy),
                self._protocol,
                [recorder] if recorder else [],
            )
            recording = self._sources.recording(spec) if self._sources.recording else None
            query = next(episode)
            while True:
                reply = self._ask_here(policy.name, query) if worker is None else await _ask(worker, query)
                if recording:
                    recording.answered(query, reply)
                query = episode.send(reply)
        except StopIteration as stop:
            return EpisodeResult(
                spec,
                stop.value,
                video=recorder.finish() if recorder else None,
                recording=recording.finish(stop.value) if recording else None,
            )
        except Exception as error:
            self._forget_env()
            return EpisodeResult(spec, None, error=_one_line(error), trace=traceback.format_exc())

    def _env_of(self, spec: EpisodeSpec) -> Env:
        if self._env is not None and (self._env.spec.suite, self._env.spec.name) != (spec.suite, spec.task):
            self._forget_env()
        if self._env is None:
            self._env = self._sources.env(spec.suite, spec.task, self._protocol.render)
        return self._env

    def _forget_env(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            try:
                env.close()
            except Exception as error:
                print(f"Closing a broken simulation failed as well: {_one_line(error)}")

    def _ask_here(self, name: str, query: Query) -> Reply:
        if name not in self._policies:
            self._policies[name] = self._sources.policy(name)
        return ask_here(self._policies[name], query)


class PolicyWorker:
    """One policy on one device, answering batches of queries from any number of simulators."""

    def __init__(self, name: str, bucket: int, sources: Sources):
        self._name = name
        self._bucket = bucket
        self._sources = sources
        self._policy: Policy | None = None
        # Two workers share a GPU while one policy takes over from another; neither may take all its memory.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        self._executor = ThreadPoolExecutor(1, "policy")  # JAX is called from one thread only.
        self._batcher = Batcher(self._answer, bucket, self._executor)

    async def prepare(self) -> WorkerReport:
        """Load, compile and warm up; episodes start after that. Raises what loading raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._prepare)

    def _prepare(self) -> WorkerReport:
        started = time.perf_counter()
        policy = self._loaded()
        load_s = time.perf_counter() - started
        compile_s = policy.prepare(self._bucket)
        return WorkerReport(policy.spec, load_s, compile_s, policy.device(), policy.fingerprint())

    def _loaded(self) -> Policy:
        """The policy; loaded at the first query where Ray has restarted a worker that died."""
        if self._policy is None:
            self._policy = self._sources.policy(self._name)
        return self._policy

    def _answer(self, queries: list[Query]) -> Answer:
        return self._loaded().infer(queries, self._bucket)

    async def infer(self, query: Query) -> Reply:
        """Answer one query, in a batch with those that wait with it."""
        return await self._batcher.ask(query)


async def _ask(worker: Any, query: Query) -> Reply:
    """Ask a policy worker; what the round trip took beyond its own stages is transport."""
    began = time.perf_counter()
    reply: Reply = await worker.infer.remote(query)
    elapsed = time.perf_counter() - began
    spent = reply.queue_s + reply.host_s + reply.device_s + reply.post_s
    return dataclasses.replace(reply, transport_s=max(0.0, elapsed - spent))


def _one_line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = (
        f" ({frames[-1].name} in {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})"
        if frames
        else ""
    )
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def start_env_actor(protocol: Protocol, video: VideoSettings | None, sources: Sources) -> Any:
    """A simulator actor on one CPU."""
    return ray.remote(EnvActor).options(num_cpus=1, max_restarts=0).remote(protocol, video, sources)


def start_policy_worker(name: str, bucket: int, num_gpus: float, sources: Sources) -> Any:
    """A policy actor on a GPU where there is one. It takes no CPU of Ray's count: simulators do."""
    options = {"num_cpus": 0, "num_gpus": num_gpus, "max_restarts": 2, "max_concurrency": 1000}
    return ray.remote(PolicyWorker).options(**options).remote(name, bucket, sources)
