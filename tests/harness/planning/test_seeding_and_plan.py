"""Which episodes a run has, and what their randomness depends on."""

import dataclasses

import pytest

from simloop.harness.planning.experiment import Experiment, ExperimentError
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol, named_protocol
from simloop.harness.planning.seeding import derive, episode_key, episode_seed, query_key
from tests.helpers.point_suite import point_task

TASKS = [point_task("left"), point_task("right")]


def plan(**changes):
    arguments = {
        "policies": ["a", "b"],
        "tasks": TASKS,
        "protocol": Protocol("points"),
        "episodes": 3,
        "seed": 0,
    }
    return make_plan(**{**arguments, **changes})


def test_derived_integers_are_the_same_on_every_machine():
    assert derive("x", 1, bits=31) == 1615583800
    assert derive("x", 1, bits=64) == 13877759174259720281


def test_parts_do_not_run_into_each_other():
    assert derive("ab", "c", bits=64) != derive("a", "bc", bits=64)
    assert derive(1, 12, bits=64) != derive(11, 2, bits=64)


def test_seeds_fit_their_bits():
    assert all(0 <= episode_seed(s, "suite", "task", e) < 2**31 for s in range(50) for e in range(20))
    assert all(0 <= query_key(episode_key(0, "s", "t", e), q) < 2**64 for e in range(20) for q in range(50))


def test_a_plan_holds_every_policy_on_every_task_as_often_as_asked():
    episodes = plan().episodes
    assert len({spec.id for spec in episodes}) == len(episodes) == 2 * 2 * 3


def test_policies_meet_the_same_initial_states_and_noise():
    by_policy = {
        name: [(s.task, s.episode, s.seed, s.key) for s in plan().episodes if s.policy == name]
        for name in "ab"
    }
    assert by_policy["a"] == by_policy["b"]


def test_episodes_differ_from_each_other():
    seeds = {(spec.seed, spec.key) for spec in plan(policies=["a"], episodes=20).episodes}
    assert len(seeds) == 40


def test_an_episode_does_not_depend_on_what_else_is_in_the_plan():
    few = plan(policies=["a"], tasks=TASKS[1:], episodes=2).episodes
    many = {spec.id: spec for spec in plan(policies=["b", "a"], episodes=9).episodes}
    assert all(many[spec.id] == spec for spec in few)


def test_the_plan_hash_follows_everything_that_decides_results():
    base = plan().sha256
    assert plan().sha256 == base
    assert len({base, plan(seed=1).sha256, plan(episodes=4).sha256, plan(policies=["b", "a"]).sha256}) == 4
    assert plan(protocol=Protocol("points", replan_steps=9)).sha256 != base


def test_plans_that_may_stop_early_mix_the_tasks_and_play_in_pairs():
    tasks = [point_task(name) for name in ("t0", "t1", "t2", "t3")]
    mixed = plan(tasks=tasks, episodes=6, interleaved_pairs=22)
    assert [spec.policy for spec in mixed.episodes] == ["a", "b"] * 22
    assert [mixed.pairs[i : i + 4] for i in (0, 4)] != [tuple((f"t{i}", e) for i in range(4)) for e in (0, 1)]
    rounds = [mixed.pairs[i : i + 4] for i in range(0, 20, 4)]
    assert all({task for task, _ in one} == {"t0", "t1", "t2", "t3"} for one in rounds), (
        "every task once a round"
    )
    assert len({tuple(task for task, _ in one) for one in rounds}) > 1, "in an order of its own"
    again = plan(tasks=tasks[::-1], episodes=6, interleaved_pairs=22)
    assert again.pairs == mixed.pairs, "whatever the order in which tasks are named"
    assert plan(tasks=tasks, episodes=6, interleaved_pairs=22, seed=1).pairs != mixed.pairs
    assert {spec.id: spec for spec in mixed.episodes}.items() <= {
        spec.id: spec for spec in plan(tasks=tasks, episodes=6).episodes
    }.items(), "the same episodes as in any other order"


def test_protocols_with_other_rules_have_other_labels():
    default = Protocol("points")
    assert default.label == "points/default-v1"
    changed = dataclasses.replace(default, replan_steps=5)
    assert changed.label.startswith("points/default-v1+")
    assert changed.label != dataclasses.replace(default, replan_steps=6).label


def test_no_recorded_initial_state_is_played_twice():
    experiment = Experiment(
        "", "libero", ("libero_spatial",), ("pi0_libero",), 50, protocol=named_protocol("libero")
    )
    assert {spec.seed for spec in experiment.plan().episodes} == set(range(50))
    with pytest.raises(
        ExperimentError, match=r"has 50 recorded initial states.*got 51 episodes.*--episodes 50"
    ):
        dataclasses.replace(experiment, episodes=51).plan()
    assert len(dataclasses.replace(experiment, episodes=51, limit=50).plan().episodes) == 50
