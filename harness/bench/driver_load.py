"""`simloop bench driver`: episodes per second that one driver can start, take back and record."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from simloop.harness.actors.env_actor import EpisodeResult
from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat
from simloop.harness.engine.episode_queue import EpisodeQueue
from simloop.harness.engine.ray_cluster import RayConnection
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.protocol import Protocol
from simloop.harness.recording.run_folder import RunFolder
from simloop.harness.rollout.phase_timer import PHASES, PhaseTotals
from simloop.harness.rollout.result import RolloutResult
from simloop.results.records.paths import video_path
from simloop.results.records.records import QueryRecord
from simloop.results.tables.grid import Grid
from simloop.results.tables.typesetting import to_markdown

QUERIES = 50
"""Queries per episode: 500 steps, one query every 10."""
VIDEO_BYTES = 150_000
EPISODE_S = 60.0
"""Duration of an episode, by which episodes per second become environments."""
AT_ONCE = 256
QUERY_RECORDS = [QueryRecord(0, 30.0, 0.2, 0.0, 0.2, 0.5, 1.0, 40.0, 0.1, 0.5, 72.5, 4, 4)] * QUERIES
EXPERIMENT = Experiment(
    "driver", "metaworld", ("reach-v3",), ("random",), 20_000, protocol=Protocol("metaworld")
)


class _Echo:
    """An env actor that returns at once."""

    async def play(self, spec: EpisodeSpec, attempt_id: int) -> EpisodeResult:
        return EpisodeResult(spec, RolloutResult(queries=QUERY_RECORDS))

    async def heartbeat(self) -> EnvActorHeartbeat:
        process = ProcessHeartbeat(0, "", 0, 0.0, 0.0, 0, 0)
        return EnvActorHeartbeat(process, (), {phase: PhaseTotals() for phase in PHASES})


def run(seconds: float, console: Console) -> int:
    """Measure and print a Markdown table; returns the exit status."""
    rows = [
        ("append to the ledger, flushed to the disk", _recorded(seconds, None)),
        (f"the same with a video of {VIDEO_BYTES // 1000} kB", _recorded(seconds, bytes(VIDEO_BYTES))),
        ("take from the episode queue", _dequeued(seconds)),
    ]
    connection = RayConnection(Resources(env_actors=1))
    connection.open()
    try:
        echo = ray.remote(_Echo).options(num_cpus=0, max_concurrency=AT_ONCE).remote()
        spec = EXPERIMENT.plan().episodes[0]
        rows.append(("call an actor and get its result", _called(seconds, lambda: echo.play.remote(spec, 0))))
        rows.append(("poll a heartbeat", _called(seconds, echo.heartbeat.remote)))
    finally:
        connection.close()
    cells = tuple((name, f"{rate:.0f}", f"{rate * EPISODE_S:.0f}") for name, rate in rows)
    note = (
        f"The last column assumes one episode of {QUERIES} queries per environment every {EPISODE_S:.0f} s."
    )
    grid = Grid("Driver", ("one driver", "per second", "environments"), (cells,), (note,))
    console.print(to_markdown(grid), highlight=False, markup=False, soft_wrap=True)
    return 0


def _recorded(seconds: float, video: bytes | None) -> float:
    plan, policy = EXPERIMENT.plan(), EXPERIMENT.policy_specs()["random"]
    with (
        tempfile.TemporaryDirectory(dir=".") as parent,
        RunFolder(Path(parent) / "run", EXPERIMENT, plan) as folder,
    ):
        count, started = 0, time.perf_counter()
        for spec in plan.episodes:
            path = video_path(spec.policy, spec.task, spec.episode, "success") if video else ""
            record = RolloutResult(queries=QUERY_RECORDS).record(spec, policy, attempts=1, video=path)
            folder.append(record, QUERY_RECORDS, {path: video} if video else None)
            count += 1
            if time.perf_counter() - started >= seconds:
                break
        return count / (time.perf_counter() - started)


def _dequeued(seconds: float) -> float:
    episodes = EXPERIMENT.plan().episodes
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        episode_queue = EpisodeQueue(episodes)
        while attempt := episode_queue.next(lambda policy: True):
            episode_queue.expected.learn(attempt.spec, 1.0)
            count += 1
    return count / (time.perf_counter() - started)


def _called(seconds: float, call: Callable[[], Any]) -> float:
    ray.get(call())
    pending = [call() for _ in range(AT_ONCE)]
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        done, pending = ray.wait(pending, num_returns=1)
        ray.get(done)
        count += len(done)
        pending.append(call())
    return count / (time.perf_counter() - started)
