import pytest

from simloop.harness.rollout import phase_timer
from simloop.harness.rollout.phase_timer import PhaseTimers


class Clock:
    """Time that passes when the test says so."""

    def __init__(self):
        self.now = 100.0
        self.cpu = 0.0

    def perf_counter(self):
        return self.now

    def thread_time(self):
        return self.cpu

    def wait(self, seconds):
        self.now += seconds

    def compute(self, seconds):
        self.now += seconds
        self.cpu += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(phase_timer, "time", clock)
    return clock


@pytest.fixture
def timers(clock):
    return PhaseTimers(_idle_since=clock.now)


def test_counts_a_span_when_it_ends(timers, clock):
    timer = timers.enter()
    with timer.span("step"):
        assert timer.phase == "step"
        assert timers.read()["step"].count == 0
        clock.compute(2.0)
        clock.wait(1.0)
    totals = timers.read()["step"]
    assert timer.phase is None
    assert (totals.count, totals.wall_s, totals.longest_s, totals.cpu_s) == (1, 3.0, 3.0, 2.0)


def test_does_not_count_a_span_that_raises(timers):
    timer = timers.enter()
    with pytest.raises(ValueError, match="broken"), timer.span("reset"):
        raise ValueError("broken")
    assert timers.read()["reset"].count == 0
    assert timer.phase is None


def test_is_idle_while_all_environments_wait(timers, clock):
    clock.wait(1.0)
    assert timers.idle_s() == 1.0
    one, two = timers.enter(), timers.enter()
    with one.span("query"), two.span("step"):
        clock.wait(1.0)
    assert timers.idle_s() == 1.0, "the other environment was simulated"
    with one.span("query"), two.span("query"):
        clock.wait(2.0)
    assert timers.idle_s() == 3.0
    clock.wait(1.0)
    assert timers.idle_s() == 3.0
    timers.leave()
    timers.leave()
    clock.wait(4.0)
    assert timers.idle_s() == 7.0
