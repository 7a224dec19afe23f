"""Measurement windows of the autoscaler."""

from dataclasses import replace
from types import SimpleNamespace

from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat, WorkerHeartbeat
from simloop.harness.engine.autoscaler import INITIAL_ENVS, Autoscaler, Limits
from simloop.harness.engine.episode_queue import Attempt
from simloop.harness.engine.resources import Floors
from simloop.harness.engine.supervisor import LONGEST_WINDOW_S, WINDOW_S, Supervisor
from simloop.harness.engine.timeouts import Timeouts
from simloop.harness.engine.worker_pool import WorkerPool
from simloop.harness.rollout.phase_timer import PHASES, PhaseTotals
from simloop.harness.serving.batcher import WorkerLoad
from simloop.harness.serving.stub_policy import Stub
from tests.harness.engine.test_env_pool import attempt, env_pool, play

GIB = 2**30
SIM_S, CALL_S = 0.03, 0.06


class Run:
    """An env actor and a worker with batches of four, on a clock set by the test."""

    def __init__(self, queries_per_s: float = 20.0):
        self.env_pool = env_pool(1)
        self.worker_pool = WorkerPool(lambda policy: Endless(), lambda *_: None, Timeouts(Floors()))
        self.worker_pool.scale_to(["stub"], 1)
        self.autoscaler = Autoscaler(Limits(env_actors=1, workers=1))
        self.supervisor = Supervisor(
            self.env_pool, self.worker_pool, Timeouts(Floors()), self.autoscaler, actor_memory_gib=None
        )
        self.rate, self.now, self.environments, self.notes = queries_per_s, 0.0, 0, []
        self.free_bytes = 64 * GIB
        play(self.env_pool, 8)
        self.env_pool.all[0].heartbeat = None

    def go_on(self, seconds: float) -> None:
        for _ in range(round(2 * seconds)):
            self.now += 0.5
            actor, (worker,) = self.env_pool.all[0], self.worker_pool.all
            process = ProcessHeartbeat(1, "node", GIB, 0.0, self.now, self.free_bytes, 100 * GIB)
            count = int(self.rate * self.now)
            totals = {phase: PhaseTotals() for phase in PHASES} | {"query": PhaseTotals(count)}
            idle_s = self.now * (1 - self.rate * SIM_S)
            actor.previous, actor.heartbeat = (
                actor.heartbeat,
                EnvActorHeartbeat(process, (), totals, idle_s, self.environments),
            )
            load = WorkerLoad(batches=count, rows=count, places=4 * count, busy_s=count * CALL_S)
            worker.previous, worker.heartbeat = worker.heartbeat, WorkerHeartbeat(process, True, load)
            actor.heard_at = worker.heard_at = self.now
            self.notes += self.supervisor.look_after(self.now, waiting=100)[1]


class Endless:
    """A Ray handle that never answers."""

    def __getattr__(self, name):
        return SimpleNamespace(remote=lambda *_: SimpleNamespace(future=lambda: None))


def test_a_window_starts_once_all_environments_exist():
    run = Run()
    run.environments = INITIAL_ENVS - 1
    run.go_on(5 * WINDOW_S)
    assert run.notes == []
    run.environments = INITIAL_ENVS
    run.go_on(WINDOW_S)
    assert run.notes == []
    run.go_on(2.0)
    assert len(run.notes) == 1
    assert run.notes[0] == (
        "Rescaled to 1 env actors with 5 environments each and 1 workers per policy: "
        "a query takes 30 ms of simulation, and a batch 60 ms."
    )
    run.go_on(5 * WINDOW_S)
    assert len(run.notes) == 1


def test_a_window_with_few_queries_is_extended_up_to_a_limit():
    run = Run(queries_per_s=0.25)
    run.environments = 8
    run.go_on(LONGEST_WINDOW_S)
    assert run.notes == []
    run.go_on(2.0)
    assert len(run.notes) == 1


def test_a_change_of_policies_restarts_the_window():
    run = Run()
    run.environments = 8
    run.go_on(WINDOW_S)
    spec = replace(attempt(9).spec, policy="another")
    run.env_pool.play(run.env_pool.all[0], Attempt(spec), Stub().spec(), ())
    run.go_on(WINDOW_S)
    assert run.notes == []
    run.go_on(2.0)
    assert len(run.notes) == 1


def test_an_env_actor_without_a_core_does_not_hold_up_the_window():
    run = Run()
    run.environments = INITIAL_ENVS
    run.env_pool.scale_to(2)
    run.go_on(WINDOW_S + 2.0)
    assert len(run.notes) == 1


def test_reduces_at_once_when_memory_runs_short_then_waits():
    run = Run()
    run.free_bytes = 2 * GIB
    run.go_on(2.0)
    assert len(run.notes) == 1
    assert "with 1 environments each and 1 workers per policy: a node is short of memory" in run.notes[0]
    run.go_on(WINDOW_S - 2.0)
    assert len(run.notes) == 1
