"""When a process is given up."""

import dataclasses

import pytest

from simloop.harness.actors.heartbeat import Doing, ProcessHealth, SimulatorHealth
from simloop.harness.engine.resources import EngineError, Floors
from simloop.harness.engine.timeouts import MANY_TIMES, Deadlines
from simloop.harness.rollout.phase_timer import PhaseTotals

PROCESS = ProcessHealth(pid=1, node="n", rss_bytes=0, cpu_s=0.0, clock_s=0.0, free_bytes=0)


def health(*doing: Doing) -> SimulatorHealth:
    return SimulatorHealth(PROCESS, doing)


def test_a_phase_has_its_floor_until_longer_ones_have_been_seen():
    deadlines = Deadlines(Floors(step=2.0))
    assert deadlines.limit_s("step") == 2.0
    deadlines.learn({"step": PhaseTotals(5, 1.0, 1.0, longest_s=0.01)})
    assert deadlines.limit_s("step") == 2.0
    deadlines.learn({"step": PhaseTotals(5, 1.0, 1.0, longest_s=0.5)})
    assert deadlines.limit_s("step") == MANY_TIMES * 0.5
    deadlines.learn({"step": PhaseTotals(5, 1.0, 1.0, longest_s=0.1)})
    assert deadlines.limit_s("step") == MANY_TIMES * 0.5, "what was possible once is possible"


@pytest.mark.parametrize("phase", ["make", "reset", "step", "render", "query"])
def test_every_phase_has_a_deadline_of_its_own(phase):
    deadlines = Deadlines(dataclasses.replace(Floors(), **{phase: 3.0}))
    assert deadlines.overdue(health(Doing(7, phase, 2.9))) is None
    found = deadlines.overdue(health(Doing(7, phase, 3.1)))
    assert (found.ticket, found.phase) == (7, phase)
    assert f"{phase} took longer than its deadline of 3 s" in str(found)


def test_environments_that_wait_behind_a_hanging_one_are_not_blamed():
    deadlines = Deadlines(Floors(step=3.0, query=5.0))
    behind = [Doing(1, "query", 60.0), Doing(2, "step", 60.0), Doing(3, None, 60.0)]
    assert deadlines.overdue(health(*behind)).ticket == 2
    assert deadlines.overdue(health(Doing(1, "query", 60.0), Doing(2, "step", 1.0))) is None


def test_who_waits_for_a_policy_that_is_at_work_is_not_late():
    deadlines = Deadlines(Floors(query=5.0))
    waiting = health(Doing(1, "query", 60.0))
    assert deadlines.overdue(waiting, answers_due=False) is None
    assert deadlines.overdue(waiting, answers_due=True).ticket == 1, "its answer was lost"


def test_what_was_under_way_at_the_last_sign_of_life_is_to_blame_for_silence():
    deadlines = Deadlines(Floors(render=60.0))
    assert deadlines.overdue(health(Doing(4, "render", 0.5)), unheard_s=30.0) is None
    assert deadlines.overdue(health(Doing(4, "render", 0.5)), unheard_s=120.0).ticket == 4


def test_silence_is_borne_as_long_as_a_phase_may_hold_the_process():
    deadlines = Deadlines(Floors(silence=10.0))
    assert deadlines.silence_s == 10.0
    deadlines.learn({"reset": PhaseTotals(1, 50.0, 50.0, longest_s=50.0)})
    assert deadlines.silence_s == 10.0 + MANY_TIMES * 50.0


def test_a_call_of_a_policy_has_a_deadline_too():
    deadlines = Deadlines(Floors(query=1.0))
    assert deadlines.call_s == 1.0
    deadlines.learn_call(0.2)
    assert deadlines.call_s == MANY_TIMES * 0.2


def test_what_is_on_its_way_to_a_deadline_is_mentioned():
    deadlines = Deadlines(Floors(reset=100.0))
    assert deadlines.slow(health(Doing(1, "reset", 10.0))) is None
    assert deadlines.slow(health(Doing(1, "reset", 30.0))).phase == "reset"


def test_deadlines_that_would_end_everything_are_refused():
    with pytest.raises(EngineError, match=r"--deadlines.step must be above 0 s; got 0"):
        Floors(step=0.0)
