"""Policies without weights, on the tasks of Meta-World."""

import dataclasses

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.interface import Env, RenderSettings
from simloop.policies.interface import Policy, Query, QueryError
from simloop.policies.scripted import SCRIPTED, scripted_policy

QUERY = Query(
    task="reach-v3",
    instruction="Reach a goal position",
    key=1,
    state=np.zeros(4, np.float32),
    privileged=np.zeros(39),
    action_low=np.array([-1.0, 0.0, -2.0, 5.0]),
    action_high=np.array([1.0, 0.5, 2.0, 6.0]),
)


def ask(policy: Policy, *queries: Query) -> list[np.ndarray]:
    return [chunk.actions for chunk in policy.infer(queries)]


def solves(env: Env, seed: int, policy: Policy) -> bool:
    """Whether the policy solves an episode, closed-loop with a chunk of one action."""
    spec = env.spec
    env.reset(seed)
    for _ in range(spec.max_steps):
        query = dataclasses.replace(
            QUERY,
            task=spec.name,
            state=env.state(),
            privileged=env.privileged(),
            action_low=np.asarray(spec.action_low),
            action_high=np.asarray(spec.action_high),
        )
        if env.step(ask(policy, query)[0][0]).success:
            return True
    return False


def success_rate(group: str, seeds: range, policy: Policy) -> float:
    successes = []
    for task in registry.resolve_tasks("metaworld", [group]):
        env = registry.suite("metaworld").make(task.name, RenderSettings())
        successes += [solves(env, seed, policy) for seed in seeds]
        env.close()
    return float(np.mean(successes))


@pytest.mark.parametrize("name", SCRIPTED)
def test_answers_every_query_with_one_float32_action_within_bounds(name):
    policy = scripted_policy(name)
    assert (policy.spec.name, policy.spec.weights, policy.spec.runs_in) == (name, "scripted", "actor")
    unit = dataclasses.replace(QUERY, action_low=-np.ones(4), action_high=np.ones(4))
    for actions in ask(policy, unit, dataclasses.replace(unit, key=2)):
        assert actions.shape == (policy.spec.chunk_steps, 4)
        assert actions.dtype == np.float32
        assert np.all(np.abs(actions) <= 1)


def test_draws_random_actions_from_the_key_alone():
    policy = scripted_policy("random")
    other = dataclasses.replace(QUERY, key=2**64 - 1)
    one, two = ask(policy, QUERY, other)
    assert not np.array_equal(one, two)
    assert np.array_equal(ask(policy, other, QUERY)[1], one)
    assert np.array_equal(ask(scripted_policy("random"), QUERY)[0], one)


def test_draws_random_actions_uniformly_within_bounds():
    queries = [dataclasses.replace(QUERY, key=key) for key in range(2000)]
    actions = np.concatenate(ask(scripted_policy("random"), *queries))
    unit = (actions - QUERY.action_low) / (QUERY.action_high - QUERY.action_low)
    assert np.allclose(
        np.quantile(unit, [0, 0.25, 0.5, 0.75, 1], axis=0).T, [0, 0.25, 0.5, 0.75, 1], atol=0.05
    )


def test_holds_with_the_zero_action():
    assert not np.any(ask(scripted_policy("hold"), QUERY)[0])


def test_expert_rejects_a_query_without_simulator_state_or_with_an_unknown_task():
    expert = scripted_policy("expert")
    assert expert.spec.uses_privileged
    with pytest.raises(QueryError, match="Fill privileged"):
        ask(expert, dataclasses.replace(QUERY, privileged=None))
    with pytest.raises(QueryError, match="'fold-towel'"):
        ask(expert, dataclasses.replace(QUERY, task="fold-towel"))


@pytest.mark.parametrize("name", SCRIPTED)
def test_rejects_a_query_without_action_bounds(name):
    with pytest.raises(QueryError, match="action_low"):
        ask(scripted_policy(name), dataclasses.replace(QUERY, action_low=None))


def test_error_for_an_unknown_name_lists_the_known_names():
    with pytest.raises(ValueError, match="expert, random, hold; got 'expertt'"):
        scripted_policy("expertt")


@pytest.mark.parametrize("others", [[], [7.0, 8.0]])
def test_the_simulator_state_begins_with_the_action_of_an_expert_that_the_suite_brings(others):
    action = np.array([2.0, 0.25, -0.5, 5.5, *others])
    query = dataclasses.replace(QUERY, task="Lift", privileged=action)
    (actions,) = ask(scripted_policy("expert"), query)
    np.testing.assert_array_equal(actions, [np.float32([1.0, 0.25, -0.5, 5.5])])


def test_expert_solves_a_task_that_hold_does_not():
    env = registry.suite("metaworld").make("drawer-close-v3", RenderSettings())
    assert solves(env, 0, scripted_policy("expert"))
    assert not solves(env, 0, scripted_policy("hold"))
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize(("group", "seeds"), [("MT10", range(5)), ("MT50", range(2))])
def test_experts_solve_nine_of_ten_episodes(group, seeds):
    assert success_rate(group, seeds, scripted_policy("expert")) >= 0.9
