"""The pool of policy workers, with recorded calls instead of Ray."""

import math
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from simloop.harness.actors.heartbeat import ProcessHeartbeat, WorkerHeartbeat
from simloop.harness.actors.policy_worker import WorkerReport
from simloop.harness.engine.resources import Floors
from simloop.harness.engine.timeouts import Timeouts
from simloop.harness.engine.worker_pool import WorkerPool
from simloop.harness.serving.batcher import WorkerLoad
from simloop.harness.serving.stub_policy import Stub

REPORT = WorkerReport(Stub().spec(), 0.0, 0.0, "cpu", {}, (4,))


@pytest.fixture
def killed(monkeypatch):
    handles = []
    monkeypatch.setattr("simloop.harness.engine.worker_pool.ray.kill", handles.append)
    return handles


def worker_pool() -> tuple[WorkerPool, list[str], list[str]]:
    """A pool, and the policies of the workers that were started and of those that were asked to prepare."""
    started: list[str] = []
    preparing: list[str] = []

    def start(policy: str):
        started.append(policy)

        def prepare():
            preparing.append(policy)
            return SimpleNamespace(future=Future)

        return SimpleNamespace(
            number=len(started),
            prepare=SimpleNamespace(remote=prepare),
            heartbeat=SimpleNamespace(remote=lambda: SimpleNamespace(future=Future)),
        )

    return WorkerPool(start, lambda *_: None, Timeouts(Floors())), started, preparing


def prepared(made: WorkerPool, number: int, report: WorkerReport = REPORT) -> WorkerReport | None:
    done: Future = Future()
    done.set_result(report)
    return made.on_prepared(made.all[number], done)


def test_adds_workers_and_uses_them_once_they_are_ready(killed):
    made, started, _ = worker_pool()
    made.scale_to(["a"], 1)
    assert made.ready("a") == ()
    assert prepared(made, 0) == REPORT
    made.scale_to(["a", "b"], 3)
    made.scale_to(["a", "b"], 3)
    assert sorted(started) == ["a"] * 3 + ["b"] * 3
    assert [handle.number for handle in made.ready("a")] == [1]
    prepared(made, 2)
    assert len(made.ready("a")) == 2
    made.scale_to(["a"], 1)
    assert len(made.all) == 6, "surplus workers stay"
    made.keep_only({"b"})
    assert len(killed) == 3
    assert made.ready("a") == ()


def beat(
    made: WorkerPool,
    doing: str = "",
    steps: int = 0,
    *,
    number: int = 0,
    pid: int = 1,
    load: WorkerLoad | None = None,
) -> None:
    """Deliver a heartbeat of a worker, which is ready if it has a load."""
    done: Future = Future()
    process = ProcessHeartbeat(pid, "here", 0, 0.0, 0.0, 0, 0)
    done.set_result(WorkerHeartbeat(process, load is not None, load or WorkerLoad(), doing, steps))
    made.on_heartbeat(made.all[number], done)


def test_the_start_timeout_applies_to_each_step_of_preparation(killed, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("simloop.harness.engine.worker_pool.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "simloop.harness.engine.worker_pool.kill_process", lambda process: killed.append(process)
    )
    made, *_ = worker_pool()
    made.scale_to(["a"], 1)
    assert made.starting() == "a: starting a process"
    for steps in range(4):
        now[0] += 0.9 * Floors().start
        beat(made, f"compiling, {steps} of 4 programs done, 800 s", steps)
        assert made.judge(now[0]) == []
    assert made.starting() == "a: compiling, 3 of 4 programs done, 800 s"
    now[0] += 0.9 * Floors().start
    beat(made, "compiling, 3 of 4 programs done, 1600 s", 3)
    assert made.judge(now[0]) == []
    now[0] += 0.2 * Floors().start
    (note,) = made.judge(now[0])
    assert "made no progress towards being ready in 900 s (compiling, 3 of 4 programs done, 1600 s)" in note
    assert len(killed) == 1


def test_starting_omits_workers_that_are_ready(killed):
    made, *_ = worker_pool()
    made.scale_to(["a", "b"], 1)
    beat(made, "loading weights, 3 s", 1)
    assert made.starting() == "a: loading weights, 3 s; b: starting a process"
    prepared(made, 0)
    assert made.starting() == "b: starting a process"


def test_a_restarted_process_is_prepared_again(killed):
    made, _, preparing = worker_pool()
    made.scale_to(["a"], 1)
    prepared(made, 0)
    beat(made, load=WorkerLoad())
    assert preparing == ["a"]
    beat(made, pid=2)
    assert preparing == ["a", "a"]


def test_the_oldest_query_of_a_policy_is_that_of_its_own_workers_in_the_last_two_heartbeats(killed):
    made, *_ = worker_pool()
    made.scale_to(["a"], 2)
    made.scale_to(["b"], 1)
    assert made.oldest_query_s("a") == math.inf
    for oldest_s in (9.0, 2.0):
        beat(made, load=WorkerLoad(oldest_s=oldest_s))
        beat(made, number=1, load=WorkerLoad(oldest_s=1.0))
        beat(made, number=2, load=WorkerLoad(oldest_s=70.0))
    assert made.oldest_query_s("a") == 9.0
    beat(made, load=WorkerLoad())
    assert made.oldest_query_s("a") == 2.0
    beat(made, load=WorkerLoad())
    assert made.oldest_query_s("a") == 1.0
    beat(made, pid=2)
    assert made.oldest_query_s("a") == math.inf, "it is being restarted"
