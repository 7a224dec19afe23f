"""Faults of processes neither lose nor duplicate episodes, nor change records."""

from collections import Counter

import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.engine.engine import Engine, EngineCallbacks
from simloop.harness.engine.resources import Floors, Resources
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.loop import run_episode
from simloop.harness.serving.stub_policy import StubPolicy
from tests.helpers import faults
from tests.helpers.faults import FAULTY, POINT_ADAPTER, POINT_STUB
from tests.helpers.point_suite import make_point_env, point_task

pytestmark = pytest.mark.usefixtures("shared_ray")

PROTOCOL = Protocol("points", render=RenderSettings("fast", 32, 32), replan_steps=3, max_steps=12)
TASKS = [point_task("left"), point_task("right")]
QUICK = Floors(make=30.0, reset=5.0, step=5.0, render=5.0, query=8.0, silence=10.0, start=200.0)


def outcome(played):
    return (played.ended_by, played.steps, played.reward, played.actions_sha256, played.final_state_sha256)


def without_faults(plan):
    """Outcomes of all episodes, played one by one in this process without faults."""
    records = {}
    for spec in plan.episodes:
        env = make_point_env("points", spec.task, PROTOCOL.render)
        records[spec.id] = outcome(run_episode(env, spec, StubPolicy(POINT_STUB), POINT_ADAPTER, PROTOCOL))
    return records


def play(plan, *, max_attempts, env_actors=2, envs_per_actor=3, workers=2, floors=QUICK, **options):
    resources = Resources(env_actors, envs_per_actor, workers, max_attempts, timeouts=floors, **options)
    notes, results = [], {}
    callbacks = EngineCallbacks(note=notes.append)
    with Engine(PROTOCOL, {"stub": POINT_STUB.spec()}, 4, resources, None, callbacks, FAULTY) as engine:
        for attempt, result in engine.results(plan.episodes):
            assert attempt.spec.id not in results, "counted twice"
            results[attempt.spec.id] = result
    return results, notes


def play_with_faults(plan, folder, counts, **options):
    """Play with faults; returns the notes of the engine."""
    faults.prepare(folder, Counter(counts))
    results, notes = play(plan, max_attempts=100, **options)
    assert results.keys() == {spec.id for spec in plan.episodes}, "lost"
    broken = {key: result.error for key, result in results.items() if result.played is None}
    assert not broken
    assert {key: outcome(result.played) for key, result in results.items()} == without_faults(plan)
    assert faults.left(folder).total() == 0, "faults that did not occur"
    return notes


def test_faults_of_every_kind_change_no_record(fault_folder):
    plan = make_plan(["stub"], TASKS, PROTOCOL, 15, seed=5)
    counts = dict.fromkeys((*faults.IN_RESET, *faults.IN_STEP, *faults.IN_WORKER), 1)
    notes = play_with_faults(plan, fault_folder, counts, actor_memory_gib=0.7)
    ended = [
        note for note in notes if "took longer than its timeout" in note or "has sent no heartbeat" in note
    ]
    assert len(ended) >= 3, "two env actors and a worker hung"
    assert sum("An env actor is replaced" in note for note in notes) >= 3


def test_only_the_episode_that_kills_its_actor_becomes_an_error(fault_folder):
    plan = make_plan(["stub"], [point_task("left"), point_task("dies")], PROTOCOL, 1, seed=5)
    results, _ = play(plan, max_attempts=2, env_actors=1, envs_per_actor=4, workers=1)
    errors = sorted((key[3], key[4]) for key, result in results.items() if result.played is None)
    assert errors == [("dies", 0)]


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_two_hundred_random_faults_change_no_record(fault_folder):
    plan = make_plan(["stub"], TASKS, PROTOCOL, 150, seed=6)
    counts = {
        "raise-in-reset": 30, "full-disk": 10, "kill-env": 40, "hang-env": 12, "hang-env-in-c": 8,
        "raise-in-step": 60, "kill-worker": 20, "hang-worker": 5, "raise-in-worker": 15,
    }  # fmt: skip
    assert sum(counts.values()) == 200
    play_with_faults(plan, fault_folder, counts)
