"""`simloop bench driver`: how many episodes per second one driver hands out, takes back and writes down."""

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
from simloop.harness.recording.run_folder import RunFolder, video_path
from simloop.harness.rollout.phase_timer import PHASES, PhaseTotals
from simloop.harness.rollout.result import RolloutResult
from simloop.results.records.records import QueryRecord
from simloop.results.tables.grid import Grid
from simloop.results.tables.typesetting import to_markdown

QUERIES = 50  # Of an episode: 500 steps, replanned every 10.
VIDEO_BYTES = 150_000
EPISODE_S = 60.0  # By which episodes per second become environments.
AT_ONCE = 256
QUERY = QueryRecord(0, 30.0, 0.2, 0.2, 1.0, 1.0, 40.0, 0.1, 72.5, 4, 4)


class _Echo:
    """A simulator that needs no time."""

    async def play(self, spec: EpisodeSpec, attempt_id: int) -> EpisodeResult:
        return EpisodeResult(spec, RolloutResult(queries=[QUERY] * QUERIES))

    async def heartbeat(self) -> EnvActorHeartbeat:
        return EnvActorHeartbeat(
            ProcessHeartbeat(0, "", 0, 0.0, 0.0, 0), (), {p: PhaseTotals() for p in PHASES}
        )


def run(seconds: float, console: Console) -> int:
    """Measure and print a table of Markdown; returns the exit status."""
    rows = [
        ("append to the ledger, flushed to the disk", _written(seconds, None)),
        (f"the same with a video of {VIDEO_BYTES // 1000} kB", _written(seconds, bytes(VIDEO_BYTES))),
        ("hand out by the agenda", _handed_out(seconds)),
    ]
    connection = RayConnection(Resources(env_actors=1))
    connection.open()
    try:
        echo = ray.remote(_Echo).options(num_cpus=0, max_concurrency=AT_ONCE).remote()
        spec = _experiment().plan().episodes[0]
        rows.append(("call of an actor and its result", _called(seconds, lambda: echo.play.remote(spec, 0))))
        rows.append(("question after the health of a process", _called(seconds, echo.heartbeat.remote)))
    finally:
        connection.close()
    cells = tuple((name, f"{rate:.0f}", f"{rate * EPISODE_S:.0f}") for name, rate in rows)
    note = (
        f"The last column supposes an episode per environment every {EPISODE_S:.0f} s, of {QUERIES} queries."
    )
    grid = Grid("Driver", ("one driver", "per second", "environments"), (cells,), (note,))
    console.print(to_markdown(grid), highlight=False, markup=False, soft_wrap=True)
    return 0


def _experiment() -> Experiment:
    return Experiment(
        "driver", "metaworld", ("reach-v3",), ("random",), 20_000, protocol=Protocol("metaworld")
    )


def _written(seconds: float, video: bytes | None) -> float:
    experiment = _experiment()
    plan = experiment.plan()
    policy = experiment.policy_specs()["random"]
    with (
        tempfile.TemporaryDirectory(dir=".") as parent,
        RunFolder(Path(parent) / "run", experiment, plan) as folder,
    ):
        count, began = 0, time.perf_counter()
        for spec in plan.episodes:
            path = video_path(spec.policy, spec.task, spec.episode, "success") if video else ""
            record = RolloutResult(queries=[QUERY] * QUERIES).record(spec, policy, attempts=1, video=path)
            folder.append(record, [QUERY] * QUERIES, video)
            count += 1
            if time.perf_counter() - began >= seconds:
                break
        return count / (time.perf_counter() - began)


def _handed_out(seconds: float) -> float:
    episodes = _experiment().plan().episodes
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        episode_queue = EpisodeQueue(episodes)
        while attempt := episode_queue.next(lambda policy: True):
            episode_queue.expected.learn(attempt.spec, 1.0)
            count += 1
    return count / (time.perf_counter() - began)


def _called(seconds: float, call: Callable[[], Any]) -> float:
    ray.get(call())
    waiting = [call() for _ in range(AT_ONCE)]
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        done, waiting = ray.wait(waiting, num_returns=1)
        ray.get(done)
        count += len(done)
        waiting.append(call())
    return count / (time.perf_counter() - began)
