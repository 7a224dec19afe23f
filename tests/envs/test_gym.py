"""Tasks as gymnasium environments."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import simloop.envs.gym
from simloop.envs import registry
from simloop.envs.interface import CameraError, RenderSettings

REACH = "simloop/metaworld.reach-v3"


@pytest.fixture(scope="module")
def env():
    simloop.envs.gym.register()
    env = gymnasium.make(REACH, height=32, width=48, cameras=("corner2", "gripperPOV"))
    yield env
    env.close()


def test_every_task_of_every_suite_is_registered_once():
    ids = simloop.envs.gym.register()
    assert len(set(ids)) == len(ids) == sum(len(registry.suite(name).tasks()) for name in registry.suites())
    assert simloop.envs.gym.register() == ids
    assert all(name in gymnasium.registry for name in ids)


def test_passes_the_checker_of_gymnasium(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The state is unbounded.
        warnings.filterwarnings("ignore", r".*A Box observation space m(in|ax)imum value is -?infinity")
        check_env(env.unwrapped, skip_render_check=True)


def test_observations_equal_those_of_the_task(env):
    observation, info = env.reset(seed=4)
    task = registry.suite("metaworld").make("reach-v3", RenderSettings(height=32, width=48))
    task.reset(4)
    assert info["instruction"] == task.spec.instruction
    assert np.array_equal(observation["state"], task.state())
    assert np.array_equal(observation["gripperPOV"], task.render("gripperPOV"))
    assert np.array_equal(env.render(), task.render("corner2"))
    task.close()


def test_later_episodes_differ_and_follow_from_the_first_seed(env):
    def three_goals() -> list[bytes]:
        env.reset(seed=0)
        return [env.reset()[0]["corner2"].tobytes() for _ in range(3)]

    first = three_goals()
    assert len(set(first)) == 3
    assert three_goals() == first


def test_truncates_an_episode_at_the_step_limit_of_the_task():
    simloop.envs.gym.register()
    env = gymnasium.make(REACH, cameras=(), render_mode=None)
    env.reset(seed=0)
    truncated = [env.step(np.zeros(4, np.float32))[3] for _ in range(500)]
    assert truncated == [False] * 499 + [True]
    env.close()


def test_default_observation_is_the_state_and_the_scene_camera_without_warnings():
    simloop.envs.gym.register()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(REACH)
        observation, _ = env.reset(seed=0)
        env.close()
    assert {name: array.shape for name, array in observation.items()} == {
        "state": (4,),
        "corner2": (224, 224, 3),
    }


def test_rejects_an_unknown_camera():
    with pytest.raises(CameraError, match="'periscope'"):
        simloop.envs.gym.GymEnv("metaworld", "reach", cameras=("periscope",))


def test_rejects_a_group_of_tasks():
    with pytest.raises(ValueError, match="'MT10' is a group of 10"):
        simloop.envs.gym.GymEnv("metaworld", "MT10")
