"""When a process is given up."""

import dataclasses

import pytest

from simloop.harness.actors.heartbeat import Activity, EnvActorHeartbeat, ProcessHeartbeat
from simloop.harness.engine.resources import EngineError, Floors
from simloop.harness.engine.timeouts import MANY_TIMES, Timeouts
from simloop.harness.rollout.phase_timer import PhaseTotals

PROCESS = ProcessHeartbeat(pid=1, node="n", rss_bytes=0, cpu_s=0.0, clock_s=0.0, free_bytes=0)


def heartbeat(*doing: Activity) -> EnvActorHeartbeat:
    return EnvActorHeartbeat(PROCESS, doing)


def test_a_phase_has_its_floor_until_longer_ones_have_been_seen():
    timeouts = Timeouts(Floors(step=2.0))
    assert timeouts.limit_s("step") == 2.0
    timeouts.learn({"step": PhaseTotals(5, 1.0, 1.0, longest_s=0.01)})
    assert timeouts.limit_s("step") == 2.0
    timeouts.learn({"step": PhaseTotals(5, 1.0, 1.0, longest_s=0.5)})
    assert timeouts.limit_s("step") == MANY_TIMES * 0.5
    timeouts.learn({"step": PhaseTotals(5, 1.0, 1.0, longest_s=0.1)})
    assert timeouts.limit_s("step") == MANY_TIMES * 0.5, "what was possible once is possible"


@pytest.mark.parametrize("phase", ["make", "reset", "step", "render", "query"])
def test_every_phase_has_a_deadline_of_its_own(phase):
    timeouts = Timeouts(dataclasses.replace(Floors(), **{phase: 3.0}))
    assert timeouts.overdue(heartbeat(Activity(7, phase, 2.9))) is None
    found = timeouts.overdue(heartbeat(Activity(7, phase, 3.1)))
    assert (found.attempt_id, found.phase) == (7, phase)
    assert f"{phase} took longer than its deadline of 3 s" in str(found)


def test_environments_that_wait_behind_a_hanging_one_are_not_blamed():
    timeouts = Timeouts(Floors(step=3.0, query=5.0))
    behind = [Activity(1, "query", 60.0), Activity(2, "step", 60.0), Activity(3, None, 60.0)]
    assert timeouts.overdue(heartbeat(*behind)).attempt_id == 2
    assert timeouts.overdue(heartbeat(Activity(1, "query", 60.0), Activity(2, "step", 1.0))) is None


def test_who_waits_for_a_policy_that_is_at_work_is_not_late():
    timeouts = Timeouts(Floors(query=5.0))
    waiting = heartbeat(Activity(1, "query", 60.0))
    assert timeouts.overdue(waiting, answers_due=False) is None
    assert timeouts.overdue(waiting, answers_due=True).attempt_id == 1, "its answer was lost"


def test_what_was_under_way_at_the_last_sign_of_life_is_to_blame_for_silence():
    timeouts = Timeouts(Floors(render=60.0))
    assert timeouts.overdue(heartbeat(Activity(4, "render", 0.5)), unheard_s=30.0) is None
    assert timeouts.overdue(heartbeat(Activity(4, "render", 0.5)), unheard_s=120.0).attempt_id == 4


def test_silence_is_borne_as_long_as_a_phase_may_hold_the_process():
    timeouts = Timeouts(Floors(silence=10.0))
    assert timeouts.silence_s == 10.0
    timeouts.learn({"reset": PhaseTotals(1, 50.0, 50.0, longest_s=50.0)})
    assert timeouts.silence_s == 10.0 + MANY_TIMES * 50.0


def test_a_call_of_a_policy_has_a_deadline_too():
    timeouts = Timeouts(Floors(query=1.0))
    assert timeouts.call_s == 1.0
    timeouts.learn_call(0.2)
    assert timeouts.call_s == MANY_TIMES * 0.2


def test_what_is_on_its_way_to_a_deadline_is_mentioned():
    timeouts = Timeouts(Floors(reset=100.0))
    assert timeouts.slow(heartbeat(Activity(1, "reset", 10.0))) is None
    assert timeouts.slow(heartbeat(Activity(1, "reset", 30.0))).phase == "reset"


def test_deadlines_that_would_end_everything_are_refused():
    with pytest.raises(EngineError, match=r"--deadlines.step must be above 0 s; got 0"):
        Floors(step=0.0)
