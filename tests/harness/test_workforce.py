"""The policy workers of a run. Without Ray: its calls are recorded."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from harness.deadlines import Deadlines
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
