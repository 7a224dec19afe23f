"""The engine is measured against the same work that it does."""

import numpy as np
import pytest

from envs.metaworld.simulation import MetaWorldEnv
from harness.bench.workload import Workload, _bare_episode, policy_alone
from harness.rollout import run_episode
from harness.sources import make_env
from harness.stub_policy import StubPolicy
from policies.interface import Query

WORK = Workload("metaworld", "reach-v3", images=False, max_steps=25, replan_steps=10, bucket=4)


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
    policy = StubPolicy(Workload("metaworld", "reach-v3", True, 25, 10, 4).stub)

    def asked(key: int, level: int):
        images = {name: np.full((224, 224, 3), level, np.uint8) for name in policy.spec.cameras}
        query = Query("t", "i", key, np.zeros(4, np.float32), images)
        return policy.infer([query], 4).chunks[0].actions

    np.testing.assert_array_equal(asked(1, 5), asked(1, 5))
    assert not np.array_equal(asked(1, 5), asked(2, 5))
    assert not np.array_equal(asked(1, 5), asked(1, 6))
    with pytest.raises(ValueError, match="1 to 1 queries; got 0"):
        policy.infer([], 1)
