"""The engine is measured against the same work that it does."""

import dataclasses

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.metaworld.simulation import MetaWorldEnv
from simloop.harness.actors.factories import make_env
from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat, WorkerHeartbeat
from simloop.harness.bench.engine_throughput import _own_time, _Reading
from simloop.harness.bench.workload import (
    EngineWorkload,
    _bare_episode,
    policy_alone,
    simulators_alone,
    stub_cpu_ms,
)
from simloop.harness.commands.bench import EpisodeOptions
from simloop.harness.errors import SimloopError
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.phase_timer import PHASES, PhaseTotals
from simloop.harness.serving.batcher import WorkerLoad
from simloop.harness.serving.stub_policy import StubPolicy
from simloop.policies.interface import Query

WORK = EngineWorkload("metaworld", "reach-v3", images=False, max_steps=25, replan_steps=10, batch_size=4)


def test_the_bare_loop_makes_the_steps_and_queries_of_an_episode(monkeypatch):
    actions = []
    step = MetaWorldEnv.step
    monkeypatch.setattr(MetaWorldEnv, "step", lambda self, a: (actions.append(np.array(a)), step(self, a))[1])
    env = make_env(WORK.suite, WORK.task, WORK.protocol.render)
    spec = WORK.plan().episodes[0]
    bare = list(_bare_episode(env, WORK, spec))
    assert bare == [10, 10, 5]
    assert len(actions) == sum(bare)
    played = run_episode(env, spec, StubPolicy(WORK.stub), WORK.adapter, WORK.protocol)
    assert (played.steps, len(played.queries)) == (25, 3)
    env.close()


def test_a_stub_takes_its_time_for_a_batch_whatever_is_in_it():
    rate = policy_alone(WORK.serving(0.05), 0.3)
    assert 20 < rate <= 4 / 0.05


def test_a_stub_answers_by_key_and_by_image():
    policy = StubPolicy(EngineWorkload("metaworld", "reach-v3", True, 25, 10, 4).stub)

    def asked(key: int, level: int):
        images = {name: np.full((224, 224, 3), level, np.uint8) for name in policy.spec.cameras}
        query = Query("t", "i", key, np.zeros(4, np.float32), images)
        return policy.infer([query], 4).chunks[0].actions

    np.testing.assert_array_equal(asked(1, 5), asked(1, 5))
    assert not np.array_equal(asked(1, 5), asked(2, 5))
    assert not np.array_equal(asked(1, 5), asked(1, 6))
    with pytest.raises(ValueError, match="1 to 1 queries; got 0"):
        policy.infer([], 1)


def test_the_cost_of_the_harness_is_taken_from_what_each_process_said_over_its_own_time():
    def simulator(clock_s: float, cpu_s: float, simulated_s: float) -> EnvActorHeartbeat:
        totals = {phase: PhaseTotals() for phase in PHASES} | {"step": PhaseTotals(1, 0.0, simulated_s)}
        return EnvActorHeartbeat(ProcessHeartbeat(1, "n", 0, cpu_s, clock_s, 0), (), totals)

    def worker(clock_s: float, cpu_s: float) -> WorkerHeartbeat:
        return WorkerHeartbeat(ProcessHeartbeat(2, "n", 0, cpu_s, clock_s, 0), True, WorkerLoad())

    before = _Reading({}, {}, clock_s=0.0, driver_s=5.0, ray_s=7.0)
    after = _Reading({}, {}, clock_s=10.0, driver_s=5.1, ray_s=7.2)
    own = _own_time(
        before,
        after,
        [(simulator(0.0, 1.0, 0.0), simulator(8.0, 9.0, 7.6)), (simulator(1.0, 0.0, 0.0), simulator(11.0, 10.0, 9.5))],
        [(worker(0.0, 0.0), worker(5.0, 0.2))],
        queries_per_s=50.0,
        stub_ms=0.1,
    )  # fmt: skip
    assert own.simulators == pytest.approx(1e3 * (0.05 + 0.05) / 50)
    assert own.workers == pytest.approx(1e3 * 0.04 / 50 - 0.1), "what the policy takes is not the harness's"
    assert (own.driver, own.ray) == (pytest.approx(0.2), pytest.approx(0.4))
    assert own.share == pytest.approx((0.1 + 0.04 - 0.005 + 0.01 + 0.02) / 2)


def test_what_the_stub_takes_of_a_core_is_known_and_does_not_include_its_sleep():
    assert 0 < stub_cpu_ms(WORK.serving(0.05), rows=3) < 20


@pytest.mark.parametrize("suite", ["metaworld", "libero", "aloha_sim"])
def test_every_suite_has_a_robot_to_measure_with(suite):
    if suite != "metaworld":
        pytest.importorskip({"libero": "libero", "aloha_sim": "gym_aloha"}[suite])
    task = registry.resolve_tasks(suite)[0].name
    work = EngineWorkload(suite, task, images=True, max_steps=25, replan_steps=10, batch_size=4)
    assert work.adapter.suite == suite
    assert set(work.stub.cameras) == set(work.adapter.cameras)


def test_a_simulation_that_fails_ends_the_measurement():
    with pytest.raises(SimloopError, match="metaworld/reech-v3 cannot be simulated: KeyError: 'reech-v3'"):
        simulators_alone(dataclasses.replace(WORK, task="reech-v3"), 2, 0.1)


@pytest.mark.parametrize(("task", "words"), [("reech-v3", "reach-v3"), ("MT10", "is 10 tasks; name one")])
def test_a_task_that_is_none_is_told_before_anything_is_measured(task, words):
    with pytest.raises((SimloopError, registry.UnknownNameError), match=words):
        EpisodeOptions(task=task).workload()
