"""Every task keeps the contract of `simloop.envs.interface`, for whichever suites are registered.

A simulation of each task is made once; few steps and small images keep a task well under a second.
"""

import itertools
from collections.abc import Callable, Iterator

import mujoco
import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.conformance import CHECKS, RENDER, check_spec, check_suite
from simloop.envs.interface import Env, StepResult, TaskSpec
from simloop.envs.served.environment import ServedEnv
from tests.helpers.fast_tasks import every_task
from tests.helpers.point_suite import PointEnv, PointSuite


@pytest.fixture(scope="module", params=every_task())
def env(request: pytest.FixtureRequest) -> Iterator[Env]:
    task: TaskSpec = request.param
    if not registry.suite(task.suite).is_installed():
        pytest.skip(f"Run scripts/setup {task.suite}.")
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
    if scenes is None and isinstance(env, ServedEnv):
        pytest.skip("The suite does not tell scenes.")
    assert scenes is not None
    assert scenes[0].poses
    assert all(0 < gripper.opening_m < 0.1 for gripper in scenes[0].grippers)
    for _ in range(3):  # So that the arm moves while it is observed.
        env.step(0.9 * np.asarray(env.spec.action_high))
    # Of LIBERO-plus cameras alone: other postures hide the finger, and noise changes pixels beside it.
    if "_view_0_0_100_0_0_" not in env.spec.name:
        check_views(env)


def check_views(env: Env) -> None:
    """Recolour a finger: the pixels that change are within the bounds to which its shape is projected."""
    model, _ = env._physics
    finger = env._scene_reader()._grippers[0].fingers[0]
    geoms = [geom for geom in range(model.ngeom) if model.geom_bodyid[geom] in finger]
    compared = 0
    for camera in env.spec.cameras:
        before, colours, materials = env.render(camera), model.geom_rgba.copy(), model.geom_matid.copy()
        model.geom_rgba[geoms], model.geom_matid[geoms] = (1, 0, 1, 1), -1
        rows, columns = np.nonzero((env.render(camera) != before).any(axis=-1))
        model.geom_rgba[:], model.geom_matid[:] = colours, materials
        with env._observed() as data:
            pixels, depth = env.view(camera).project(
                np.concatenate([corners(model, data, geom) for geom in geoms])
            )
        if len(rows) >= 3 and depth.min() > 0.04:
            compared += 1
            assert (pixels.min(axis=0) - 1 <= [columns.min(), rows.min()]).all(), camera
            assert (pixels.max(axis=0) + 1 >= [columns.max() + 1, rows.max() + 1]).all(), camera
            within = np.clip(pixels, 0, [before.shape[1], before.shape[0]])
            reach = 0.3 * np.ptp(within, axis=0) + 1
            assert (abs(np.mean([columns, rows], axis=1) + 0.5 - within.mean(axis=0)) < reach).all(), camera
    assert compared


def corners(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> np.ndarray:
    """Corners of the bounding box of a geom, in the world frame."""
    centre, half = model.geom_aabb[geom].reshape(2, 3)
    signs = np.array(list(itertools.product([-1, 1], repeat=3)))
    return data.geom_xpos[geom] + (centre + signs * half) @ data.geom_xmat[geom].reshape(3, 3).T


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


class Solved(PointEnv):
    def step(self, action):
        return StepResult(super().step(action).reward, True)


def test_a_task_that_is_solved_from_the_start_is_a_fault():
    assert "every policy succeeds" in problems(Solved)["success does not hold in the initial state"]


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
