"""What processes said of themselves, in a few numbers."""

import pytest

from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat, WorkerHeartbeat
from simloop.harness.engine.metrics import simulator_figures, worker_figures
from simloop.harness.rollout.phase_timer import PHASES, PhaseTotals
from simloop.harness.serving.batcher import Load

GIB = 2**30


def simulator(clock_s: float, idle_s: float, queries: int, environments: int = 2) -> EnvActorHeartbeat:
    process = ProcessHeartbeat(1, "n", 3 * GIB, 0.0, clock_s, 8 * GIB)
    totals = {phase: PhaseTotals() for phase in PHASES} | {
        "query": PhaseTotals(queries), "step": PhaseTotals(10 * queries, 0.02 * queries),
    }  # fmt: skip
    return EnvActorHeartbeat(process, (), totals, idle_s, environments)


def worker(
    clock_s: float, calls: int, rows: int, busy_s: float, running_for_s: float = 0.0
) -> WorkerHeartbeat:
    load = Load(3, calls, rows, 4 * calls, busy_s, running_for_s)
    return WorkerHeartbeat(ProcessHeartbeat(2, "n", 0, 0.0, clock_s, 0), True, load)


def test_simulators_are_summed_over_the_time_that_each_was_watched():
    figures = simulator_figures(
        [(simulator(0.0, 0.0, 0), simulator(10.0, 4.0, 100)), (simulator(5.0, 1.0, 20), simulator(15.0, 1.0, 220))]
    )  # fmt: skip
    assert figures["simulator_share"] == pytest.approx(0.8)
    assert figures["queries_per_s"] == pytest.approx(30.0)
    assert figures["steps_per_s"] == pytest.approx(300.0)
    assert figures["sim_ms"] == pytest.approx(1e3 * 16 / 300, abs=0.001), "what it was busy for, per query"
    assert figures["phase_ms"]["step"] == pytest.approx(2.0)
    assert figures["env_bytes"] == 3 * GIB // 2


def test_simulators_that_asked_nothing_say_nothing_of_what_a_query_takes():
    assert simulator_figures([(simulator(0.0, 0.0, 0), simulator(10.0, 4.0, 0))])["sim_ms"] is None
    assert simulator_figures([]) == {}


def test_a_call_is_as_long_as_the_time_in_which_there_were_calls():
    figures = worker_figures([(worker(0.0, 0, 0, 0.0), worker(10.0, 50, 150, 5.0))])
    assert figures == {
        "queue": 3, "device_share": pytest.approx(0.5), "batch_fill": pytest.approx(0.75),
        "call_ms": pytest.approx(100.0), "call_rows": pytest.approx(4.0),
    }  # fmt: skip
    silent = worker_figures([(worker(0.0, 5, 9, 1.0), worker(10.0, 5, 9, 1.0, running_for_s=10.0))])
    assert silent == {"queue": 3, "device_share": 1.0}, "one call that has not ended"
