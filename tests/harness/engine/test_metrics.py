"""Engine metrics from pairs of heartbeats."""

from dataclasses import replace

import pytest

from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat, WorkerHeartbeat
from simloop.harness.engine.metrics import env_actor_metrics, worker_metrics
from simloop.harness.recording.engine_metrics import EnvActorMetrics, WorkerMetrics
from simloop.harness.rollout.phase_timer import PHASES, PhaseTotals
from simloop.harness.serving.batcher import WorkerLoad

GIB = 2**30


def env_actor(clock_s: float, idle_s: float, queries: int, environments: int = 2) -> EnvActorHeartbeat:
    process = ProcessHeartbeat(1, "n", 3 * GIB, 0.0, clock_s, 8 * GIB, 32 * GIB)
    totals = {phase: PhaseTotals() for phase in PHASES} | {
        "query": PhaseTotals(queries), "step": PhaseTotals(10 * queries, 0.02 * queries),
    }  # fmt: skip
    return EnvActorHeartbeat(process, (), totals, idle_s, environments)


def worker(
    clock_s: float, calls: int, rows: int, busy_s: float, running_for_s: float = 0.0
) -> WorkerHeartbeat:
    load = WorkerLoad(3, calls, rows, 4 * calls, busy_s, running_for_s)
    return WorkerHeartbeat(ProcessHeartbeat(2, "n", 0, 0.0, clock_s, 0, 0), True, load)


def test_env_actor_metrics_cover_the_time_between_two_heartbeats():
    metrics = env_actor_metrics(
        [(env_actor(0.0, 0.0, 0), env_actor(10.0, 4.0, 100)), (env_actor(5.0, 1.0, 20), env_actor(15.0, 1.0, 220))]
    )  # fmt: skip
    assert metrics.simulator_share == pytest.approx(0.8)
    assert metrics.queries_per_s == pytest.approx(30.0)
    assert metrics.steps_per_s == pytest.approx(300.0)
    assert metrics.sim_ms == pytest.approx(1e3 * 16 / 300, abs=0.001)
    assert metrics.phase_ms["step"] == pytest.approx(2.0)
    assert metrics.env_bytes == 3 * GIB // 2


def test_further_environments_of_an_env_actor_count_with_what_they_add():
    def now(first_bytes: int) -> EnvActorHeartbeat:
        return replace(env_actor(10.0, 4.0, 0), first_bytes=first_bytes)

    before, environments = env_actor(0.0, 0.0, 0), env_actor(0.0, 0.0, 0).environments
    measured = env_actor_metrics([(before, now(2 * GIB))])
    assert measured.actor_bytes == 2 * GIB
    assert measured.env_bytes == (3 * GIB - 2 * GIB) // (environments - 1)
    assert env_actor_metrics([(before, now(4 * GIB))]).env_bytes == 0, "the first scene was larger"
    assert env_actor_metrics([(before, now(0))]).actor_bytes == 3 * GIB


def test_env_actor_metrics_are_none_without_queries():
    assert env_actor_metrics([(env_actor(0.0, 0.0, 0), env_actor(10.0, 4.0, 0))]).sim_ms is None
    assert env_actor_metrics([]) == EnvActorMetrics()


def test_worker_metrics_divide_busy_time_by_batches():
    metrics = worker_metrics([(worker(0.0, 0, 0, 0.0), worker(10.0, 50, 150, 5.0))])
    assert metrics == WorkerMetrics(queue=3, device_share=0.5, batch_fill=0.75, call_ms=100.0, call_rows=4.0)
    silent = worker_metrics([(worker(0.0, 5, 9, 1.0), worker(10.0, 5, 9, 1.0, running_for_s=10.0))])
    assert silent == WorkerMetrics(queue=3, device_share=1.0)
