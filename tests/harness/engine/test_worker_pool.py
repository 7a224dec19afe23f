"""The policy workers of a run. Without Ray: its calls are recorded."""

import dataclasses
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
from simloop.policies.models.kernels import Kernels

REPORT = WorkerReport(Stub().spec(), 0.0, 0.0, "cpu", {}, (4,))


@pytest.fixture
def killed(monkeypatch):
    handles = []
    monkeypatch.setattr("simloop.harness.engine.worker_pool.ray.kill", handles.append)
    return handles


def worker_pool(on_progress: list | None = None) -> tuple[WorkerPool, list[str]]:
    """Workers, and their policies as they are started; `on_progress` gets what each is told when it is to prepare itself."""
    started: list[str] = []
    on_progress = [] if on_progress is None else on_progress

    def start(policy: str):
        started.append(policy)

        def prepare(kernels):
            on_progress.append((policy, kernels))
            return SimpleNamespace(future=Future)

        return SimpleNamespace(
            number=len(started),
            prepare=SimpleNamespace(remote=prepare),
            heartbeat=SimpleNamespace(remote=lambda: SimpleNamespace(future=Future)),
        )

    return WorkerPool(start, lambda *_: None, Timeouts(Floors())), started


def prepared(made: WorkerPool, number: int, report: WorkerReport = REPORT) -> WorkerReport | None:
    done: Future = Future()
    done.set_result(report)
    return made.prepared(made.all[number], done)


def test_more_workers_join_those_that_are_there_and_are_asked_once_they_are_ready(killed):
    made, started = worker_pool()
    made.have(["a"], 1)
    assert made.ready("a") == ()
    assert prepared(made, 0) == REPORT
    made.have(["a", "b"], 3)
    made.have(["a", "b"], 3)
    assert sorted(started) == ["a"] * 3 + ["b"] * 3
    assert [handle.number for handle in made.ready("a")] == [1], "the first answers while others load"
    prepared(made, 2)
    assert len(made.ready("a")) == 2
    made.have(["a"], 1)
    assert len(made.all) == 6, "nobody is sent away for a lower number"
    made.keep({"b"})
    assert len(killed) == 3
    assert made.ready("a") == ()


def said(made: WorkerPool, doing: str, steps: int, *, number: int = 0, pid: int = 1) -> None:
    done: Future = Future()
    done.set_result(
        WorkerHeartbeat(ProcessHeartbeat(pid, "here", 0, 0.0, 0.0, 0), False, WorkerLoad(), doing, steps)
    )
    made.heard(made.all[number], done)


def test_a_worker_has_its_time_for_every_step_and_not_for_all_of_them(killed, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("simloop.harness.engine.worker_pool.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "simloop.harness.engine.worker_pool.kill_process", lambda process: killed.append(process)
    )
    made, _ = worker_pool()
    made.have(["a"], 1)
    assert made.starting() == "a: starting a process"
    for steps in range(4):
        now[0] += 0.9 * Floors().start
        said(made, f"compiling, {steps} of 4 programs done, 800 s", steps)
        assert made.judge(now[0]) == []
    assert made.starting() == "a: compiling, 3 of 4 programs done, 800 s"
    now[0] += 0.9 * Floors().start
    said(made, "compiling, 3 of 4 programs done, 1600 s", 3)
    assert made.judge(now[0]) == []
    now[0] += 0.2 * Floors().start
    (note,) = made.judge(now[0])
    assert "came no further towards being ready in 900 s (compiling, 3 of 4 programs done, 1600 s)" in note
    assert len(killed) == 1


def test_nothing_is_said_of_workers_that_can_answer(killed):
    made, _ = worker_pool()
    made.have(["a", "b"], 1)
    said(made, "loading weights, 3 s", 1)
    assert made.starting() == "a: loading weights, 3 s; b: starting a process"
    prepared(made, 0)
    assert made.starting() == "b: starting a process"


CUDNN = Kernels(prompt_attention="cudnn")


def test_the_first_worker_chooses_kernels_and_the_others_wait_for_its_choice(killed):
    on_progress: list = []
    made, started = worker_pool(on_progress)
    made.have(["a"], 3)
    assert started == ["a"] * 3, "their processes start at once"
    assert on_progress == [("a", None)]
    said(made, "", 0, number=1)
    assert on_progress == [("a", None)], "still chosen"
    prepared(made, 0, dataclasses.replace(REPORT, kernels=CUDNN))
    said(made, "", 0, number=1)
    said(made, "", 0, number=2)
    assert on_progress[1:] == [("a", CUDNN)] * 2


def test_a_process_that_is_started_again_goes_on_with_the_kernels_of_before(killed):
    on_progress: list = []
    made, _ = worker_pool(on_progress)
    made.have(["a"], 1)
    prepared(made, 0, dataclasses.replace(REPORT, kernels=CUDNN))
    said(made, "", 0, pid=2)
    assert on_progress == [("a", None), ("a", CUDNN)]


def test_settled_kernels_are_nobodys_choice(killed):
    on_progress: list = []
    made, _ = worker_pool(on_progress)
    made.settle({"a": CUDNN})
    made.have(["a"], 2)
    assert on_progress == [("a", CUDNN)] * 2
