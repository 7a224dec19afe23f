"""The promises of `simloop.envs.interface`, for every registered task.

Each environment is made once; few steps and small images keep a task well under a second.
"""

import random
from collections.abc import Iterator

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.interface import ActionError, CameraError, Env, RenderSettings, StepResult, TaskSpec
from tests.helpers.fast_tasks import every_task

HEIGHT, WIDTH = 48, 64  # Unequal, to detect an exchange of the two.
STEPS = 2


@pytest.fixture(scope="module", params=every_task())
def env(request: pytest.FixtureRequest) -> Iterator[Env]:
    task: TaskSpec = request.param
    env = registry.suite(task.suite).make(task.name, RenderSettings("fast", HEIGHT, WIDTH))
    assert env.spec == task
    yield env
    env.close()
    env.close()  # Closing twice is allowed.


def some_actions(spec: TaskSpec) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(0))
    return generator.uniform(spec.action_low, spec.action_high, (STEPS, spec.action_size)).astype(np.float32)


def play(env: Env, seed: int) -> list[np.ndarray]:
    """Everything but images that a policy or a record can observe of a short episode."""
    env.reset(seed)
    seen = [env.snapshot(), env.state(), env.privileged()]
    for action in some_actions(env.spec):
        result = env.step(action)
        seen += [env.snapshot(), env.state(), env.privileged(), np.array([result.reward, result.success])]
    return seen


@pytest.mark.parametrize("suite", registry.suites())
def test_every_task_spec_is_complete(suite: str):
    for task in registry.suite(suite).tasks():
        assert task.name
        assert task.instruction.strip() == task.instruction != ""
        assert task.max_steps > 0
        assert task.control_hz > 0
        assert len(set(task.cameras)) == len(task.cameras) > 0
        assert len(set(task.state_names)) == task.state_size > 0
        sizes = {len(set(task.action_names)), len(task.action_low), len(task.action_high)}
        assert sizes == {task.action_size}
        assert all(low < high for low, high in zip(task.action_low, task.action_high, strict=True))


def test_observations_match_the_spec(env: Env):
    env.reset(0)
    result = env.step(some_actions(env.spec)[0])
    assert isinstance(result, StepResult)
    assert np.isfinite(result.reward)
    assert env.state().shape == (env.spec.state_size,)
    assert env.state().dtype == np.float32
    assert env.privileged().shape == (env.spec.privileged_size,)
    assert all(np.all(np.isfinite(seen)) for seen in (env.state(), env.privileged(), env.snapshot()))


def test_every_camera_shows_something(env: Env):
    env.reset(0)
    for camera in env.spec.cameras:
        image = env.render(camera)
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert image.dtype == np.uint8
        assert image.std() > 5, f"{camera} is of one colour"


def test_same_seed_repeats_the_episode_after_other_episodes(env: Env):
    camera = env.spec.cameras[0]
    first = [*play(env, seed=1), env.render(camera)]
    play(env, seed=2)
    again = [*play(env, seed=1), env.render(camera)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_different_seeds_give_different_initial_states(env: Env):
    scenes = []
    for seed in (0, 1, 2**63 - 1):
        env.reset(seed)
        scenes.append(np.concatenate([env.snapshot(), env.privileged()]).tobytes())
    assert len(set(scenes)) == len(scenes)


def test_global_random_state_is_neither_read_nor_changed(env: Env):
    seen = []
    for global_seed in (11, 12):
        random.seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        before = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
        seen.append(play(env, seed=5))
        assert (random.getstate(), np.random.get_state()[1].tobytes()) == before  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))


def test_the_scene_tells_where_things_are(env: Env):
    env.reset(0)
    env.step(some_actions(env.spec)[0])
    before = env.save()
    scenes = env.scenes([env.snapshot()])
    assert scenes is not None
    (scene,) = scenes
    assert scene.time_s > 0
    assert scene.poses
    assert all(np.isfinite([*pose.position_m, *pose.quaternion]).all() for pose in scene.poses.values())
    assert all(np.linalg.norm(pose.quaternion) == pytest.approx(1) for pose in scene.poses.values())
    assert all(contact.force_n >= 0 for contact in scene.contacts)
    assert env.save() == before


def test_an_action_changes_the_state(env: Env):
    env.reset(0)
    before = env.snapshot()
    env.step(some_actions(env.spec)[0])
    assert not np.array_equal(env.snapshot(), before)


def test_rendering_does_not_affect_the_physics(env: Env):
    env.reset(0)
    unseen = [env.snapshot(), *(env.step(action) and env.snapshot() for action in some_actions(env.spec))]
    env.reset(0)
    seen = [env.snapshot()]
    for action in some_actions(env.spec):
        env.render(env.spec.cameras[0])
        env.step(action)
        seen.append(env.snapshot())
    assert all(np.array_equal(a, b) for a, b in zip(unseen, seen, strict=True))


def test_returned_arrays_are_independent_of_later_steps(env: Env):
    env.reset(0)
    camera = env.spec.cameras[0]
    observed = [env.state(), env.privileged(), env.snapshot(), env.render(camera)]
    copies = [array.copy() for array in observed]
    later = [env.state(), env.privileged(), env.snapshot(), env.render(camera)]
    assert not any(np.shares_memory(a, b) for a, b in zip(observed, later, strict=True))
    for array in later:
        array[...] = 0  # Nor does the environment share their memory.
    env.step(some_actions(env.spec)[0])
    env.render(camera)
    assert all(np.array_equal(a, b) for a, b in zip(observed, copies, strict=True))
    assert np.any(env.state())


def test_rejects_invalid_actions_without_advancing(env: Env):
    env.reset(0)
    before = env.snapshot()
    good = some_actions(env.spec)[0]
    not_a_number, infinite, too_large, too_small = (good.copy() for _ in range(4))
    not_a_number[-1], infinite[0] = np.nan, np.inf
    too_large[0] = env.spec.action_high[0] + 1
    too_small[-1] = env.spec.action_low[-1] - 1
    with pytest.raises(ActionError, match="shape"):
        env.step(good[:-1])
    with pytest.raises(ActionError, match="NaN"):
        env.step(not_a_number)
    with pytest.raises(ActionError, match="NaN or infinite"):
        env.step(infinite)
    with pytest.raises(ActionError, match=f"takes {env.spec.action_names[0]} in"):
        env.step(too_large)
    with pytest.raises(ActionError, match=f"takes {env.spec.action_names[-1]} in"):
        env.step(too_small)
    assert np.array_equal(env.snapshot(), before)


def test_rejects_an_unknown_camera_by_name(env: Env):
    env.reset(0)
    with pytest.raises(CameraError, match="'periscope'"):
        env.render("periscope")
