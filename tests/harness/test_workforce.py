"""The policy workers of a run. Without Ray: its calls are recorded."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from harness.batching import Load
from harness.deadlines import Deadlines
from harness.health import ProcessHealth, WorkerHealth
from harness.policy_worker import WorkerReport
from harness.resources import Floors
from harness.stub_policy import Stub
from harness.workforce import Workforce

REPORT = WorkerReport(Stub().spec(), 0.0, 0.0, "cpu", {}, (4,))


@pytest.fixture
def killed(monkeypatch):
    handles = []
    monkeypatch.setattr("harness.workforce.ray.kill", handles.append)
    return handles


def workforce() -> tuple[Workforce, list[str]]:
    started: list[str] = []

    def start(policy: str):
        started.append(policy)
        call = SimpleNamespace(remote=lambda: SimpleNamespace(future=Future))
        return SimpleNamespace(number=len(started), prepare=call, health=call)

    return Workforce(start, lambda *_: None, Deadlines(Floors())), started


def prepared(made: Workforce, number: int) -> WorkerReport | None:
    done: Future = Future()
    done.set_result(REPORT)
    return made.prepared(made.all[number], done)


def test_more_workers_join_those_that_are_there_and_are_asked_once_they_are_ready(killed):
    made, started = workforce()
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


def said(made: Workforce, doing: str, steps: int, *, prepared: bool = False) -> None:
    done: Future = Future()
    done.set_result(WorkerHealth(ProcessHealth(1, "here", 0, 0.0, 0.0, 0), prepared, Load(), doing, steps))
    made.heard(made.all[0], done)


def test_a_worker_has_its_time_for_every_step_and_not_for_all_of_them(killed, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("harness.workforce.time.monotonic", lambda: now[0])
    monkeypatch.setattr("harness.workforce.kill_process", lambda process: killed.append(process))
    made, _ = workforce()
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
    made, _ = workforce()
    made.have(["a", "b"], 1)
    said(made, "loading weights, 3 s", 1)
    assert made.starting() == "a: loading weights, 3 s; b: starting a process"
    prepared(made, 0)
    assert made.starting() == "b: starting a process"
