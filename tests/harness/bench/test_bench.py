"""Workload, baselines and costs of `simloop bench`."""

import dataclasses

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.metaworld.simulation import MetaWorldEnv
from simloop.harness.actors.factories import make_env
from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat, WorkerHeartbeat
from simloop.harness.bench.baselines import bare_episode, policy_alone, simulation_alone, stub_cpu_ms
from simloop.harness.bench.engine_throughput import Snapshot, harness_cpu
from simloop.harness.bench.workload import Workload
from simloop.harness.errors import SimloopError
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.phase_timer import PHASES, PhaseTotals
from simloop.harness.serving.batcher import WorkerLoad
from simloop.harness.serving.stub_policy import StubPolicy
from simloop.policies.interface import Query

WORK = Workload(images=False, max_steps=25)


@pytest.mark.slow
def test_the_bare_loop_has_the_steps_and_queries_of_an_episode(monkeypatch):
    actions = []
    step = MetaWorldEnv.step
    monkeypatch.setattr(MetaWorldEnv, "step", lambda self, a: (actions.append(np.array(a)), step(self, a))[1])
    env = make_env(WORK.suite, WORK.task, WORK.protocol.render)
    spec = WORK.episodes()[0]
    bare = list(bare_episode(env, WORK, spec))
    assert bare == [10, 10, 5]
    assert len(actions) == sum(bare)
    played = run_episode(env, spec, StubPolicy(WORK.stub), WORK.adapter, WORK.protocol)
    assert (played.steps, len(played.queries)) == (25, 3)
    env.close()


def test_a_stub_takes_its_service_time_for_a_batch():
    rate = policy_alone(WORK.with_service(0.05), 0.3)
    assert 20 < rate <= 4 / 0.05


def test_the_answer_of_a_stub_depends_on_key_and_images():
    policy = StubPolicy(Workload(images=True, max_steps=25, batch_size=4).stub)

    def asked(key: int, level: int):
        images = {name: np.full((224, 224, 3), level, np.uint8) for name in policy.spec.cameras}
        query = Query("t", "i", key, np.zeros(4, np.float32), images)
        return policy.infer([query], 4).chunks[0].actions

    np.testing.assert_array_equal(asked(1, 5), asked(1, 5))
    assert not np.array_equal(asked(1, 5), asked(2, 5))
    assert not np.array_equal(asked(1, 5), asked(1, 6))
    with pytest.raises(ValueError, match="1 to 1 queries; got 0"):
        policy.infer([], 1)


def test_harness_cpu_measures_each_process_over_its_own_interval():
    def env_actor(clock_s: float, cpu_s: float, simulated_s: float, queries: int) -> EnvActorHeartbeat:
        totals = {phase: PhaseTotals() for phase in PHASES}
        totals |= {"step": PhaseTotals(1, 0.0, simulated_s), "query": PhaseTotals(queries)}
        return EnvActorHeartbeat(ProcessHeartbeat(1, "n", 0, cpu_s, clock_s, 0, 0), (), totals)

    def worker(clock_s: float, cpu_s: float) -> WorkerHeartbeat:
        return WorkerHeartbeat(ProcessHeartbeat(2, "n", 0, cpu_s, clock_s, 0, 0), True, WorkerLoad())

    before = Snapshot({}, {}, clock_s=0.0, driver_s=5.0, ray_s=7.0)
    after = Snapshot({}, {}, clock_s=10.0, driver_s=5.1, ray_s=7.2)
    own = harness_cpu(
        before,
        after,
        [
            (env_actor(0.0, 1.0, 0.0, 0), env_actor(8.0, 9.0, 7.6, 200)),
            (env_actor(1.0, 0.0, 0.0, 0), env_actor(11.0, 10.0, 9.5, 250)),
        ],
        [(worker(0.0, 0.0), worker(5.0, 0.2))],
        stub_ms=0.1,
    )  # fmt: skip
    assert own.env_actors == pytest.approx(1e3 * (0.05 + 0.05) / 50)
    assert own.workers == pytest.approx(1e3 * 0.04 / 50 - 0.1)
    assert (own.driver, own.ray) == (pytest.approx(0.2), pytest.approx(0.4))
    assert own.share == pytest.approx((0.1 + 0.04 - 0.005 + 0.01 + 0.02) / 2)


def test_stub_cpu_excludes_the_service_time():
    assert 0 < stub_cpu_ms(WORK.with_service(0.05), queries=3) < 20


@pytest.mark.parametrize("suite", ["metaworld", "libero", "aloha_sim"])
def test_every_suite_has_a_workload(suite):
    if suite != "metaworld":
        pytest.importorskip({"libero": "libero", "aloha_sim": "gym_aloha"}[suite])
    task = registry.resolve_tasks(suite)[0].name
    work = Workload(suite, task)
    assert work.adapter.suite == suite
    assert set(work.stub.cameras) == set(work.adapter.cameras)


def test_a_failing_simulation_ends_the_measurement():
    with pytest.raises(SimloopError, match="metaworld/reech-v3 cannot be simulated: UnknownNameError: "):
        simulation_alone(dataclasses.replace(WORK, task="reech-v3"), 2, 0.1)


@pytest.mark.parametrize(("task", "words"), [("reech-v3", "reach-v3"), ("MT10", "is 10 tasks; name one")])
def test_rejects_a_name_that_is_not_one_task(task, words):
    with pytest.raises((SimloopError, registry.UnknownNameError), match=words):
        _ = Workload(task=task).task_spec
