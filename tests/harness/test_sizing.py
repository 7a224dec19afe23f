"""How many environments a simulator has under way."""

from dataclasses import replace

import pytest

from harness.figures import Figures
from harness.sizing import MOST, START, Sizing

GIB = 2**30
STARVED = Figures(
    simulators=2, waiting=100, simulator_share=0.6, device_share=0.5, batch_fill=0.5, queries_per_s=10.0,
    env_bytes=GIB // 4, free_bytes=64 * GIB,
)  # fmt: skip


def sizing(by_hand=None, *, asked_elsewhere=True, total=100 * GIB) -> Sizing:
    return Sizing(by_hand, asked_elsewhere=asked_elsewhere, total_bytes=total)


def closed_loop(chosen: Sizing, *, sim_s: float, service_s: float, bucket: int, simulators=2, rounds=30):
    """What an ideal machine would measure for each number of environments, looked at again and again."""
    for _ in range(rounds):
        places = chosen.places
        # Each environment goes round: its own simulation, then a batch that is running, then its own batch.
        alone = simulators * places / (sim_s + 2 * service_s)
        rate = min(simulators / sim_s, bucket / service_s, alone)
        calls = min(1 / service_s, rate)
        figures = replace(
            STARVED, places=places, queries_per_s=rate,
            simulator_share=rate * sim_s / simulators, device_share=calls * service_s,
            batch_fill=rate / calls / bucket,
        )  # fmt: skip
        chosen.judge(figures)
    return rate


@pytest.mark.parametrize(
    ("sim_s", "service_s"), [(0.04, 0.01), (0.04, 0.2), (0.01, 0.1), (0.002, 0.05), (0.1, 0.1)]
)
def test_without_a_hand_the_scarcer_side_is_kept_busy(sim_s, service_s):
    rate = closed_loop(sizing(), sim_s=sim_s, service_s=service_s, bucket=4)
    assert rate >= 0.95 * min(2 / sim_s, 4 / service_s)


def test_one_environment_is_enough_where_nobody_is_asked():
    chosen = sizing(asked_elsewhere=False)
    assert chosen.judge(STARVED).places == 1


def test_a_number_set_by_hand_stays():
    chosen = sizing(3)
    assert chosen.judge(STARVED).places == 3


def test_simulators_that_never_wait_get_no_more():
    assert sizing().judge(replace(STARVED, simulator_share=0.99)).places == START


def test_a_policy_that_is_always_busy_with_full_batches_gets_no_more():
    assert sizing().judge(replace(STARVED, device_share=0.99, batch_fill=0.99)).places == START


def test_half_empty_batches_are_a_reason_for_more_and_it_is_said():
    judged = sizing().judge(replace(STARVED, device_share=0.99, batch_fill=0.5))
    assert judged.places > START
    assert judged.reason == "simulators waited 40% of the time, the policy filled 50% of its rows"


def test_it_is_left_at_that_when_more_brings_nothing():
    chosen = sizing()
    seen = []
    for _ in range(20):
        figures = replace(STARVED, places=chosen.places, queries_per_s=10.0)
        seen.append(chosen.judge(figures).places)
    assert seen[-1] == seen[5] < MOST


def test_memory_that_is_not_there_is_not_planned_with():
    tight = replace(STARVED, free_bytes=14 * GIB, env_bytes=GIB)
    assert sizing().judge(tight).places == START + 1
    assert sizing().judge(replace(tight, free_bytes=12 * GIB)).places == START


def test_a_machine_that_runs_short_gets_less_and_says_so():
    chosen = sizing()
    short = replace(STARVED, free_bytes=3 * GIB)
    first = chosen.judge(short)
    assert (first.places, first.short_of_memory) == (START - 1, True)
    assert chosen.judge(short).short_of_memory
    assert chosen.judge(STARVED).places == START - 1, "it does not go straight back"


def test_nothing_is_judged_before_anything_is_measured_or_while_there_is_too_little_to_do():
    assert sizing().judge(Figures()).places == START
    assert sizing().judge(replace(STARVED, waiting=0)).places == START
