"""When the sizes of a run are judged, and by what."""

from dataclasses import replace
from types import SimpleNamespace

from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat, WorkerHeartbeat
from simloop.harness.engine.autoscaler import START, Autoscaler, Limits
from simloop.harness.engine.episode_queue import Attempt
from simloop.harness.engine.resources import Floors
from simloop.harness.engine.supervisor import LONGEST_WINDOW_S, WINDOW_S, Supervisor
from simloop.harness.engine.timeouts import Timeouts
from simloop.harness.engine.worker_pool import WorkerPool
from simloop.harness.rollout.phase_timer import PHASES, PhaseTotals
from simloop.harness.serving.batcher import WorkerLoad
from simloop.harness.serving.stub_policy import Stub
from tests.harness.engine.test_env_pool import attempt, play, simulators

GIB = 2**30
SIM_S, CALL_S = 0.03, 0.06


class Run:
    """One simulator and one worker whose clocks are turned by hand; the worker answers four at once."""

    def __init__(self, queries_per_s: float = 20.0):
        self.simulators = simulators(1)
        self.worker_pool = WorkerPool(lambda policy: Endless(), lambda *_: None, Timeouts(Floors()))
        self.worker_pool.have(["stub"], 1)
        self.autoscaler = Autoscaler(Limits(simulators=1, workers=1, total_bytes=100 * GIB))
        self.supervisor = Supervisor(
            self.simulators, self.worker_pool, Timeouts(Floors()), self.autoscaler, actor_memory_gib=None
        )
        self.rate, self.now, self.environments, self.notes = queries_per_s, 0.0, 0, []
        self.free_bytes = 64 * GIB
        play(self.simulators, 8)
        self.simulators.all[0].heartbeat = None

    def go_on(self, seconds: float) -> None:
        for _ in range(round(2 * seconds)):
            self.now += 0.5
            simulator, (worker,) = self.simulators.all[0], self.worker_pool.all
            process = ProcessHeartbeat(1, "node", GIB, 0.0, self.now, self.free_bytes)
            count = int(self.rate * self.now)
            totals = {phase: PhaseTotals() for phase in PHASES} | {"query": PhaseTotals(count)}
            idle_s = self.now * (1 - self.rate * SIM_S)
            simulator.before, simulator.heartbeat = (
                simulator.heartbeat,
                EnvActorHeartbeat(process, (), totals, idle_s, self.environments),
            )
            load = WorkerLoad(batches=count, rows=count, places=4 * count, busy_s=count * CALL_S)
            worker.before, worker.heartbeat = worker.heartbeat, WorkerHeartbeat(process, True, load)
            simulator.heard = worker.heard = self.now
            self.notes += self.supervisor.look_after(self.now, waiting=100)[1]


class Endless:
    """A handle that never answers."""

    def __getattr__(self, name):
        return SimpleNamespace(remote=lambda *_: SimpleNamespace(future=lambda: None))


def test_nothing_is_judged_before_as_many_environments_are_there_as_there_may_be():
    run = Run()
    run.environments = START - 1
    run.go_on(5 * WINDOW_S)
    assert run.notes == []
    run.environments = START
    run.go_on(WINDOW_S)
    assert run.notes == [], "a window begins when they are there"
    run.go_on(2.0)
    assert len(run.notes) == 1
    assert (
        "simulators 1, environments of each 5, workers of a policy 1; a query takes 30 ms of simulating"
        in run.notes[0]
    )
    assert "60 ms of a call" in run.notes[0]
    run.go_on(5 * WINDOW_S)
    assert len(run.notes) == 1, "the new ones are not there yet"


def test_a_window_is_as_long_as_it_takes_to_see_enough_but_not_for_ever():
    run = Run(queries_per_s=0.25)
    run.environments = 8
    run.go_on(LONGEST_WINDOW_S)
    assert run.notes == []
    run.go_on(2.0)
    assert len(run.notes) == 1


def test_another_policy_begins_a_window_of_its_own():
    run = Run()
    run.environments = 8
    run.go_on(WINDOW_S)
    spec = replace(attempt(9).spec, policy="another")
    run.simulators.play(run.simulators.all[0], Attempt(spec), Stub().spec(), ())
    run.go_on(WINDOW_S)
    assert run.notes == []
    run.go_on(2.0)
    assert len(run.notes) == 1


def test_a_simulator_that_finds_no_core_does_not_keep_the_others_from_being_judged():
    run = Run()
    run.environments = START
    run.simulators.have(2)
    run.go_on(WINDOW_S + 2.0)
    assert len(run.notes) == 1


def test_memory_that_runs_short_is_not_waited_for_but_given_time_to_be_freed():
    run = Run()
    run.free_bytes = 2 * GIB
    run.go_on(2.0)
    assert len(run.notes) == 1
    assert "environments of each 1, workers of a policy 1; the machine runs short of memory" in run.notes[0]
    run.go_on(WINDOW_S - 2.0)
    assert len(run.notes) == 1
