"""What a process is doing, and how long that took."""

import time

import pytest

from simloop.harness.rollout.phase_timer import PhaseTimers


def test_a_phase_counts_when_it_has_come_to_its_end():
    timers = PhaseTimers()
    timer = timers.enter()
    with timer.span("step"):
        assert timer.phase == "step"
        assert timers.read()["step"].count == 0
        time.sleep(0.01)
    totals = timers.read()["step"]
    assert timer.phase is None
    assert totals.count == 1
    assert totals.wall_s == totals.longest_s >= 0.01
    assert totals.cpu_s < 0.01, "sleeping takes no time of the core"


def test_what_broke_does_not_count():
    timers = PhaseTimers()
    timer = timers.enter()
    with pytest.raises(ValueError, match="broken"), timer.span("reset"):
        raise ValueError("broken")
    assert timers.read()["reset"].count == 0
    assert timer.phase is None


def test_a_process_is_idle_while_all_its_environments_wait():
    timers = PhaseTimers()
    time.sleep(0.01)
    assert timers.idle_s() >= 0.01
    one, two = timers.enter(), timers.enter()
    before = timers.idle_s()
    with one.span("query"), two.span("step"):
        time.sleep(0.01)
    assert timers.idle_s() == before, "the other one was simulated"
    with one.span("query"), two.span("query"):
        time.sleep(0.01)
    assert 0.01 <= timers.idle_s() - before < 0.1
    between = timers.idle_s()
    time.sleep(0.005)
    assert timers.idle_s() == between
    timers.leave()
    timers.leave()
    time.sleep(0.005)
    assert timers.idle_s() >= between + 0.005
