"""Timeouts of phases and batches."""

import dataclasses
import math

import pytest

from simloop.harness.actors.heartbeat import Activity, EnvActorHeartbeat, ProcessHeartbeat
from simloop.harness.engine.resources import EngineError, Floors
from simloop.harness.engine.timeouts import FACTOR, WINDOW, Timeouts
from simloop.harness.rollout.phase_timer import PhaseTotals

PROCESS = ProcessHeartbeat(pid=1, node="n", rss_bytes=0, cpu_s=0.0, clock_s=0.0, free_bytes=0, total_bytes=1)


def heartbeat(*doing: Activity) -> EnvActorHeartbeat:
    return EnvActorHeartbeat(PROCESS, doing)


def test_timeouts_start_at_their_floor_and_grow_with_measured_durations():
    timeouts = Timeouts(Floors(step=2.0))
    assert timeouts.limit_s("step") == 2.0
    timeouts.learn({"step": PhaseTotals(5, 1.0, 1.0, longest_s=0.01)})
    assert timeouts.limit_s("step") == 2.0
    for _ in range(2):
        timeouts.learn({"step": PhaseTotals(5, 1.0, 1.0, longest_s=0.5)})
    assert timeouts.limit_s("step") == FACTOR * 0.5
    timeouts.learn({"step": PhaseTotals(5, 1.0, 1.0, longest_s=0.1)})
    assert timeouts.limit_s("step") == FACTOR * 0.5


@pytest.mark.parametrize("steps_before", [1, 5, 99, 500])
def test_a_single_outlier_does_not_raise_a_timeout(steps_before):
    timeouts = Timeouts(Floors(step=2.0))
    for seconds in (*[0.2] * steps_before, 40.0):
        timeouts.learn({"step": PhaseTotals(1, seconds, seconds, longest_s=seconds)})
    assert timeouts.limit_s("step") == FACTOR * 0.2


def test_a_timeout_follows_durations_that_fall():
    timeouts = Timeouts(Floors(query=1.0))
    for seconds in (5.0, 0.5):
        for _ in range(WINDOW):
            timeouts.learn_batch(seconds)
        assert timeouts.batch_s == FACTOR * seconds


def test_heartbeats_without_a_completed_phase_do_not_lower_its_timeout():
    timeouts = Timeouts(Floors(reset=2.0))
    timeouts.learn({"reset": PhaseTotals(1, 1.0, 1.0, longest_s=1.0)})
    for _ in range(2 * WINDOW):
        timeouts.learn({"reset": PhaseTotals(1, 1.0, 1.0, longest_s=0.0)})
    assert timeouts.limit_s("reset") == FACTOR * 1.0


@pytest.mark.parametrize("phase", ["make", "reset", "step", "render", "query"])
def test_every_phase_has_its_own_timeout(phase):
    timeouts = Timeouts(dataclasses.replace(Floors(), **{phase: 3.0}))
    assert timeouts.overdue(heartbeat(Activity(7, phase, 2.9))) is None
    found = timeouts.overdue(heartbeat(Activity(7, phase, 3.1)))
    assert (found.attempt_id, found.phase) == (7, phase)
    assert f"{phase} took longer than its timeout of 3 s" in str(found)


def test_does_not_blame_environments_that_wait_behind_a_hanging_one():
    timeouts = Timeouts(Floors(step=3.0, query=5.0))
    behind = [Activity(1, "query", 60.0), Activity(2, "step", 60.0), Activity(3, None, 60.0)]
    assert timeouts.overdue(heartbeat(*behind)).attempt_id == 2
    assert timeouts.overdue(heartbeat(Activity(1, "query", 60.0), Activity(2, "step", 1.0))) is None


def test_a_query_is_overdue_if_it_is_older_by_its_timeout_than_all_that_its_policy_has_to_answer():
    timeouts = Timeouts(Floors(query=5.0))
    waiting = heartbeat(Activity(1, "query", 60.0), Activity(2, "query", 60.0))
    assert timeouts.overdue(waiting, answering_s=lambda attempt_id: 56.0) is None
    assert timeouts.overdue(waiting, answering_s=lambda attempt_id: 56.0 / attempt_id).attempt_id == 2
    assert timeouts.overdue(waiting, answering_s=lambda attempt_id: math.inf) is None


def test_blames_the_last_reported_phase_for_silence():
    timeouts = Timeouts(Floors(render=60.0))
    assert timeouts.overdue(heartbeat(Activity(4, "render", 0.5)), unheard_s=30.0) is None
    assert timeouts.overdue(heartbeat(Activity(4, "render", 0.5)), unheard_s=120.0).attempt_id == 4


def test_allows_silence_for_as_long_as_a_phase_may_block_the_process():
    timeouts = Timeouts(Floors(silence=10.0))
    assert timeouts.silence_s == 10.0
    timeouts.learn({"reset": PhaseTotals(1, 50.0, 50.0, longest_s=50.0)})
    assert timeouts.silence_s == 10.0 + FACTOR * 50.0


def test_batches_have_a_timeout():
    timeouts = Timeouts(Floors(query=1.0))
    assert timeouts.batch_s == 1.0
    timeouts.learn_batch(0.2)
    assert timeouts.batch_s == FACTOR * 0.2


def test_reports_a_phase_that_is_slow():
    timeouts = Timeouts(Floors(reset=100.0))
    assert timeouts.slow(heartbeat(Activity(1, "reset", 10.0))) is None
    assert timeouts.slow(heartbeat(Activity(1, "reset", 30.0))).phase == "reset"


def test_rejects_floors_that_are_not_positive():
    with pytest.raises(EngineError, match=r"--timeouts.step must be above 0 s; got 0"):
        Floors(step=0.0)
