"""Choice of the number of env actors, environments and policy workers."""

from dataclasses import replace

import pytest

from simloop.harness.engine.autoscaler import EXCESS, INITIAL_ENVS, Autoscaler, Limits
from simloop.harness.recording.engine_metrics import EngineMetrics

GIB = 2**30
LIMITS = Limits(env_actors=2, workers=1)
MEASURED = EngineMetrics(
    simulators=2, waiting=100, simulator_share=0.6, device_share=0.5, batch_fill=0.5, queries_per_s=30.0,
    sim_ms=40.0, call_ms=20.0, call_rows=4.0, actor_bytes=GIB, env_bytes=GIB // 4, free_bytes=64 * GIB,
    total_bytes=100 * GIB,
)  # fmt: skip
"""Two env actors, neither of which is busy all the time."""


def autoscaler(**limits) -> Autoscaler:
    return Autoscaler(replace(LIMITS, **limits))


class Node:
    """A model of a node on which everything takes its mean time and waiting queries share a batch."""

    def __init__(self, sim_s: float, batch_s: float, rows: int = 4, unevenness: float = 0.0):
        self.sim_s, self.batch_s, self.rows, self.unevenness = sim_s, batch_s, rows, unevenness

    def metrics(self, chosen: Autoscaler) -> EngineMetrics:
        # Varying times make a round longer than the sum of its parts.
        alone = (
            chosen.env_actors * chosen.envs_per_actor / (self.sim_s + (2 + self.unevenness) * self.batch_s)
        )
        rate = min(chosen.env_actors / self.sim_s, chosen.workers * self.rows / self.batch_s, alone)
        calls = min(chosen.workers / self.batch_s, rate)
        return replace(
            MEASURED, places=chosen.envs_per_actor, queries_per_s=rate, sim_ms=1e3 * self.sim_s,
            call_ms=1e3 * self.batch_s, call_rows=float(self.rows),
            simulator_share=rate * self.sim_s / chosen.env_actors,
            device_share=calls * self.batch_s / chosen.workers, batch_fill=rate / calls / self.rows,
        )  # fmt: skip

    def run(self, chosen: Autoscaler, rounds: int = 40) -> float:
        """Queries per second after many judgements."""
        for _ in range(rounds):
            chosen.judge(self.metrics(chosen))
        return self.metrics(chosen).queries_per_s or 0.0


NODES = [(0.04, 0.01), (0.04, 0.2), (0.01, 0.1), (0.002, 0.05), (0.1, 0.1), (1.0, 0.001)]


@pytest.mark.parametrize("unevenness", [0.0, 1.0])
@pytest.mark.parametrize(("sim_s", "batch_s"), NODES)
def test_keeps_the_scarcer_side_busy_without_excess_environments(sim_s, batch_s, unevenness):
    chosen = autoscaler()
    rate = Node(sim_s, batch_s, unevenness=unevenness).run(chosen)
    assert rate >= 0.95 * min(2 / sim_s, 4 / batch_s)
    enough = chosen.enough(1e3 * sim_s, 1e3 * batch_s, 4.0)
    assert chosen.envs_per_actor <= (enough if unevenness == 0 else EXCESS * enough)


def test_enough_follows_littles_law():
    chosen = autoscaler(env_actors=4)
    assert chosen.enough(40.0, 20.0, 64.0) == 2, "each waits for 40 ms while the other is simulated for 40"
    assert chosen.enough(40.0, 100.0, 64.0) == 6
    assert chosen.enough(10.0, 100.0, 4.0) == 3, (
        "two batches of four on their way, and one in twelve simulated"
    )
    assert chosen.enough(40.0, 0.0, 4.0) == INITIAL_ENVS


def test_keeps_one_more_environment_only_if_throughput_rises():
    chosen = autoscaler()
    assert "env actors waited 40% of the time, and the policy 50%" in chosen.judge(MEASURED)
    assert chosen.envs_per_actor == 3
    chosen.judge(replace(MEASURED, queries_per_s=33.0))
    assert chosen.envs_per_actor == 4
    assert (
        chosen.judge(replace(MEASURED, queries_per_s=33.3))
        == "one more environment per actor brought no gain"
    )
    assert chosen.envs_per_actor == 3
    for _ in range(10):
        assert chosen.judge(MEASURED) == ""
    chosen.reset()
    chosen.judge(MEASURED)
    assert chosen.envs_per_actor == 4


def test_noise_does_not_add_environments_without_limit():
    chosen = autoscaler()
    rate = 30.0
    for _ in range(100):
        rate *= 1.05
        chosen.judge(replace(MEASURED, queries_per_s=rate))
    assert chosen.envs_per_actor == EXCESS * chosen.enough(40.0, 20.0, 4.0)


def test_follows_changing_durations_in_both_directions():
    chosen = autoscaler()
    slow, quick = Node(0.01, 0.1, rows=64), Node(0.1, 0.01)
    slow.run(chosen)
    many = chosen.envs_per_actor
    assert many >= 20
    quick.run(chosen)
    assert chosen.envs_per_actor <= EXCESS * INITIAL_ENVS
    slow.run(chosen)
    assert chosen.envs_per_actor == many


def test_adds_environments_while_batches_are_not_full():
    chosen = autoscaler()
    reason = chosen.judge(replace(MEASURED, device_share=0.99, batch_fill=0.5))
    assert chosen.envs_per_actor > INITIAL_ENVS
    assert reason == "env actors waited 40% of the time, and batches were 50% full"


def test_adds_nothing_to_a_saturated_side():
    for busy in ({"simulator_share": 0.99}, {"device_share": 0.99, "batch_fill": 0.99}):
        chosen = autoscaler()
        assert chosen.judge(replace(MEASURED, **busy)) == ""
        assert chosen.envs_per_actor == INITIAL_ENVS


def test_never_changes_values_set_by_the_user():
    chosen = autoscaler(envs_per_actor=3, workers=2, workers_fixed=True, env_actors_fixed=True)
    Node(0.001, 0.5).run(chosen)
    chosen.judge(replace(MEASURED, free_bytes=GIB))
    assert (chosen.env_actors, chosen.envs_per_actor, chosen.workers) == (2, 3, 2)


def test_uses_one_environment_per_actor_without_policy_workers():
    chosen = autoscaler(uses_workers=False)
    assert chosen.envs_per_actor == 1
    chosen.judge(replace(MEASURED, call_ms=None))
    assert chosen.envs_per_actor == 1


def test_adds_workers_only_if_the_present_ones_cannot_keep_up():
    chosen = autoscaler(env_actors=16, workers=8)
    chosen.judge(replace(MEASURED, sim_ms=100.0, call_ms=20.0))
    assert chosen.workers == 1, (
        "160 queries per second, where one worker answers 200, of which a fifth is spare"
    )
    assert "env actors can send 400 queries per second, and one worker answers 200" in chosen.judge(
        replace(MEASURED, sim_ms=40.0, call_ms=20.0)
    )
    assert chosen.workers == 3
    chosen.judge(replace(MEASURED, sim_ms=1.0, call_ms=100.0))
    assert chosen.workers == 8, "no more than there are devices"


def test_adds_no_more_environments_than_memory_holds():
    tight = replace(MEASURED, free_bytes=14 * GIB, env_bytes=GIB, call_ms=400.0, call_rows=64.0)
    chosen = autoscaler()
    chosen.judge(tight)
    assert chosen.envs_per_actor == INITIAL_ENVS + 1, "two more GiB can be planned with"
    chosen.judge(replace(tight, free_bytes=12 * GIB))
    assert chosen.envs_per_actor == INITIAL_ENVS + 1


def test_adds_env_actors_when_memory_has_room():
    chosen = Autoscaler(replace(LIMITS, env_actors=64), room=5)
    assert chosen.env_actors == 5
    assert chosen.judge(replace(MEASURED, free_bytes=42 * GIB, env_bytes=GIB)) == (
        "there is memory for more env actors"
    )
    assert chosen.env_actors == 5 + 15, "two environments each in 30 GiB"
    shared = Autoscaler(replace(LIMITS, env_actors=64), room=5)
    shared.judge(replace(MEASURED, free_bytes=42 * GIB, env_bytes=0))
    assert shared.env_actors == 5 + 29, "the second environment of each shares the model of the first"
    assert Autoscaler(LIMITS, room=0).env_actors == 1


def test_reduces_environments_then_env_actors_when_memory_runs_short():
    chosen = autoscaler(env_actors=3)
    short = replace(MEASURED, free_bytes=3 * GIB)
    assert chosen.short_of_memory(short)
    assert chosen.judge(short) == "a node is short of memory"
    assert (chosen.env_actors, chosen.envs_per_actor) == (3, 1)
    chosen.judge(short)
    assert (chosen.env_actors, chosen.envs_per_actor) == (2, 1)
    chosen.judge(MEASURED)
    assert (chosen.env_actors, chosen.envs_per_actor) == (2, 1)


def test_changes_nothing_without_measurements_or_waiting_episodes():
    for measured in (EngineMetrics(), replace(MEASURED, waiting=0)):
        chosen = autoscaler()
        assert chosen.judge(measured) == ""
        assert (chosen.env_actors, chosen.envs_per_actor, chosen.workers) == (2, INITIAL_ENVS, 1)
