"""How many simulators, environments of each, and policy workers there are."""

from dataclasses import replace

import pytest

from simloop.harness.engine.autoscaler import BEYOND, START, Autoscaler, Limits
from simloop.harness.recording.engine_metrics import EngineMetrics

GIB = 2**30
LIMITS = Limits(simulators=2, workers=1, total_bytes=100 * GIB)
SEEN = EngineMetrics(
    simulators=2, waiting=100, simulator_share=0.6, device_share=0.5, batch_fill=0.5, queries_per_s=30.0,
    sim_ms=40.0, call_ms=20.0, call_rows=4.0, env_bytes=GIB // 4, free_bytes=64 * GIB,
)  # fmt: skip
"""Two simulators that are to be given more."""


def autoscaler(**limits) -> Autoscaler:
    return Autoscaler(replace(LIMITS, **limits))


class Machine:
    """An ideal one: everything takes its mean time, and what waits together is answered together."""

    def __init__(self, sim_s: float, call_s: float, rows: int = 4, unevenness: float = 0.0):
        self.sim_s, self.call_s, self.rows, self.unevenness = sim_s, call_s, rows, unevenness

    def figures(self, chosen: Autoscaler) -> EngineMetrics:
        # Where times vary, rounds take longer than their parts.
        alone = chosen.simulators * chosen.places / (self.sim_s + (2 + self.unevenness) * self.call_s)
        rate = min(chosen.simulators / self.sim_s, chosen.workers * self.rows / self.call_s, alone)
        calls = min(chosen.workers / self.call_s, rate)
        return replace(
            SEEN, places=chosen.places, queries_per_s=rate, sim_ms=1e3 * self.sim_s, call_ms=1e3 * self.call_s,
            call_rows=float(self.rows), simulator_share=rate * self.sim_s / chosen.simulators,
            device_share=calls * self.call_s / chosen.workers, batch_fill=rate / calls / self.rows,
        )  # fmt: skip

    def run(self, chosen: Autoscaler, rounds: int = 40) -> float:
        """Queries per second once it has been judged often."""
        for _ in range(rounds):
            chosen.judge(self.figures(chosen))
        return self.figures(chosen).queries_per_s or 0.0


MACHINES = [(0.04, 0.01), (0.04, 0.2), (0.01, 0.1), (0.002, 0.05), (0.1, 0.1), (1.0, 0.001)]


@pytest.mark.parametrize("unevenness", [0.0, 1.0])
@pytest.mark.parametrize(("sim_s", "call_s"), MACHINES)
def test_without_a_hand_the_scarcer_side_is_kept_busy_by_no_more_than_it_takes(sim_s, call_s, unevenness):
    chosen = autoscaler()
    rate = Machine(sim_s, call_s, unevenness=unevenness).run(chosen)
    assert rate >= 0.95 * min(2 / sim_s, 4 / call_s)
    enough = chosen.enough(1e3 * sim_s, 1e3 * call_s, 4.0)
    assert chosen.places <= (enough if unevenness == 0 else BEYOND * enough)


def test_what_is_enough_is_the_time_of_a_round_over_that_of_a_query():
    chosen = autoscaler(simulators=4)
    assert chosen.enough(40.0, 20.0, 64.0) == 2, "each waits for 40 ms while the other is simulated for 40"
    assert chosen.enough(40.0, 100.0, 64.0) == 6
    assert chosen.enough(10.0, 100.0, 4.0) == 3, (
        "two batches of four on their way, and one in twelve simulated"
    )
    assert chosen.enough(40.0, 0.0, 4.0) == START


def test_one_more_is_tried_while_somebody_waits_and_kept_only_if_queries_come_faster():
    chosen = autoscaler()
    assert "simulators waited 40% of the time, the policy 50%" in chosen.judge(SEEN)
    assert chosen.places == 3
    chosen.judge(replace(SEEN, queries_per_s=33.0))
    assert chosen.places == 4, "10 % more: go on"
    assert chosen.judge(replace(SEEN, queries_per_s=33.3)) == "one more brought nothing"
    assert chosen.places == 3
    for _ in range(10):
        assert chosen.judge(SEEN) == "", "that has been tried"
    chosen.reset()
    chosen.judge(SEEN)
    assert chosen.places == 4, "with another policy it may help"


def test_noise_does_not_make_it_grow_without_end():
    chosen = autoscaler()
    rate = 30.0
    for _ in range(100):
        rate *= 1.05
        chosen.judge(replace(SEEN, queries_per_s=rate))
    assert chosen.places == BEYOND * chosen.enough(40.0, 20.0, 4.0)


def test_times_that_change_while_it_runs_are_followed_both_ways():
    chosen = autoscaler()
    slow, quick = Machine(0.01, 0.1, rows=64), Machine(0.1, 0.01)
    slow.run(chosen)
    many = chosen.places
    assert many >= 20
    quick.run(chosen)
    assert chosen.places <= BEYOND * START
    slow.run(chosen)
    assert chosen.places == many


def test_half_empty_batches_of_a_busy_policy_are_a_reason_for_more_and_it_is_said():
    chosen = autoscaler()
    reason = chosen.judge(replace(SEEN, device_share=0.99, batch_fill=0.5))
    assert chosen.places > START
    assert reason == "simulators waited 40% of the time, the policy filled 50% of its rows"


def test_who_never_waits_gets_no_more():
    for busy in ({"simulator_share": 0.99}, {"device_share": 0.99, "batch_fill": 0.99}):
        chosen = autoscaler()
        assert chosen.judge(replace(SEEN, **busy)) == ""
        assert chosen.places == START


def test_what_was_set_by_hand_stays():
    chosen = autoscaler(places=3, workers=2, workers_by_hand=True, simulators_by_hand=True)
    Machine(0.001, 0.5).run(chosen)
    chosen.judge(replace(SEEN, free_bytes=GIB))
    assert (chosen.simulators, chosen.places, chosen.workers) == (2, 3, 2)


def test_one_environment_is_enough_where_nobody_is_asked():
    chosen = autoscaler(asked_elsewhere=False)
    assert chosen.places == 1
    chosen.judge(replace(SEEN, call_ms=None))
    assert chosen.places == 1


def test_another_worker_is_started_only_where_one_cannot_keep_up():
    chosen = autoscaler(simulators=16, workers=8)
    chosen.judge(replace(SEEN, sim_ms=100.0, call_ms=20.0))
    assert chosen.workers == 1, "asked 160 times a second, one answers 200 but for a fifth to spare"
    assert "simulators can ask 400 times a second, and one worker answers 200" in chosen.judge(
        replace(SEEN, sim_ms=40.0, call_ms=20.0)
    )
    assert chosen.workers == 3
    chosen.judge(replace(SEEN, sim_ms=1.0, call_ms=100.0))
    assert chosen.workers == 8, "no more than there are devices"


def test_memory_ends_it():
    tight = replace(SEEN, free_bytes=14 * GIB, env_bytes=GIB, call_ms=400.0, call_rows=64.0)
    chosen = autoscaler()
    chosen.judge(tight)
    assert chosen.places == START + 1, "two more GiB can be planned with"
    chosen.judge(replace(tight, free_bytes=12 * GIB))
    assert chosen.places == START + 1


def test_more_simulators_follow_where_memory_turns_out_to_have_room():
    chosen = Autoscaler(replace(LIMITS, simulators=64), room=5)
    assert chosen.simulators == 5, "as many as a guess allows"
    assert chosen.judge(replace(SEEN, free_bytes=42 * GIB, env_bytes=GIB)) == (
        "memory has room for more simulators"
    )
    assert chosen.simulators == 5 + 15, "two environments each in 30 GiB"
    assert Autoscaler(LIMITS, room=0).simulators == 1


def test_a_machine_that_runs_short_gets_less_and_does_not_go_straight_back():
    chosen = autoscaler(simulators=3)
    short = replace(SEEN, free_bytes=3 * GIB)
    assert chosen.short_of_memory(short)
    assert chosen.judge(short) == "the machine runs short of memory"
    assert (chosen.simulators, chosen.places) == (3, 1)
    chosen.judge(short)
    assert (chosen.simulators, chosen.places) == (2, 1), "then simulators"
    chosen.judge(SEEN)
    assert (chosen.simulators, chosen.places) == (2, 1)


def test_nothing_is_judged_before_anything_is_measured_or_while_there_is_too_little_to_do():
    for seen in (EngineMetrics(), replace(SEEN, waiting=0)):
        chosen = autoscaler()
        assert chosen.judge(seen) == ""
        assert (chosen.simulators, chosen.places, chosen.workers) == (2, START, 1)
