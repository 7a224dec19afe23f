"""What a process is doing, and how long that took."""

import time

import pytest

from simloop.harness.rollout.phase_timer import Board


def test_a_phase_counts_when_it_has_come_to_its_end():
    board = Board()
    place = board.place()
    with place.doing("step"):
        assert place.phase == "step"
        assert board.read()["step"].count == 0
        time.sleep(0.01)
    totals = board.read()["step"]
    assert place.phase is None
    assert totals.count == 1
    assert totals.wall_s == totals.longest_s >= 0.01
    assert totals.cpu_s < 0.01, "sleeping takes no time of the core"


def test_what_broke_does_not_count():
    board = Board()
    place = board.place()
    with pytest.raises(ValueError, match="broken"), place.doing("reset"):
        raise ValueError("broken")
    assert board.read()["reset"].count == 0
    assert place.phase is None


def test_a_process_is_idle_while_all_its_environments_wait():
    board = Board()
    time.sleep(0.01)
    assert board.idle_s() >= 0.01
    one, two = board.place(), board.place()
    before = board.idle_s()
    with one.doing("query"), two.doing("step"):
        time.sleep(0.01)
    assert board.idle_s() == before, "the other one was simulated"
    with one.doing("query"), two.doing("query"):
        time.sleep(0.01)
    assert 0.01 <= board.idle_s() - before < 0.1
    between = board.idle_s()
    time.sleep(0.005)
    assert board.idle_s() == between
    board.leave()
    board.leave()
    time.sleep(0.005)
    assert board.idle_s() >= between + 0.005
