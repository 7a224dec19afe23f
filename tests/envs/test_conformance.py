"""Every task keeps the contract of `simloop.envs.interface`, for whichever suites are registered.

A simulation of each task is made once; few steps and small images keep a task well under a second.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.conformance import CHECKS, RENDER, check_spec, check_suite
from simloop.envs.interface import Env, StepResult, TaskSpec
from tests.helpers.fast_tasks import every_task
from tests.helpers.point_suite import PointEnv, PointSuite


@pytest.fixture(scope="module", params=every_task())
def env(request: pytest.FixtureRequest) -> Iterator[Env]:
    task: TaskSpec = request.param
    env = registry.suite(task.suite).make(task.name, RENDER)
    assert env.spec == task
    yield env
    env.close()


@pytest.mark.parametrize("suite", registry.suites())
def test_every_task_spec_is_complete(suite: str):
    for task in registry.suite(suite).tasks():
        check_spec(task)


def test_the_scene_tells_where_things_are(env: Env):
    env.reset(0)
    scenes = env.scenes([env.snapshot()])
    assert scenes is not None
    assert scenes[0].poses


def test_environments_of_a_task_do_not_affect_each_other(env: Env):
    """They share the compiled model and the renderer; each moves things and is drawn in turns with the other."""
    spec = env.spec
    actions = np.random.default_rng(0).uniform(spec.action_low, spec.action_high, (2, spec.action_size))

    def moments(neighbour: Env | None) -> list[np.ndarray]:
        env.reset(1)
        seen = []
        for i, action in enumerate(actions):
            if neighbour is not None:
                neighbour.reset(2 + i)
                neighbour.step(action)
                neighbour.render(spec.cameras[-1])
            env.step(action)
            seen += [env.snapshot(), env.privileged(), *map(env.render, spec.cameras[:2])]
        return [*seen, np.frombuffer(env.save().to_bytes(), np.uint8)]

    alone = moments(None)
    neighbour = registry.suite(spec.suite).make(spec.name, RENDER)
    together = moments(neighbour)
    neighbour.close()
    after = moments(None)
    assert all(map(np.array_equal, alone, together))
    assert all(map(np.array_equal, alone, after))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_task(env: Env, check: Callable[[Env], None]):
    check(env)


def problems(env: type[Env]) -> dict[str, str]:
    return {found.check: found.problem for found in check_suite(PointSuite(env)) if found.problem}


def test_a_suite_without_faults_has_no_problems():
    assert problems(PointEnv) == {}


class Unseeded(PointEnv):
    def reset(self, seed):
        super().reset(np.random.randint(2**31))  # noqa: NPY002


class Careless(PointEnv):
    def step(self, action):
        try:
            super().step(action)
        except ValueError:
            return StepResult(0.0, False)
        return StepResult(float("nan"), False)

    def state(self):
        return self._position


def test_each_fault_is_a_sentence():
    unseeded = problems(Unseeded)
    assert unseeded["same seed repeats the episode after other episodes"] == (
        "Seed 1 gave another episode after one of seed 2 than before it."
    )
    assert "global random state" in unseeded["global random state is neither read nor changed"]
    careless = problems(Careless)
    assert careless["observations match the spec"] == "The reward is nan."
    assert "Two arrays of state share memory" in careless["returned arrays are independent of later steps"]
    assert "step accepted an action of another shape" in careless["rejects invalid actions without advancing"]
