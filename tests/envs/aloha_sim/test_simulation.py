"""The suite `aloha_sim` compared with gym-aloha: equal numbers and images, without its side effects."""

import simloop.envs.rendering  # isort: skip  # noqa: F401

import gymnasium
import numpy as np
import pytest
from gym_aloha.tasks import sim

from simloop.envs import registry
from simloop.envs.interface import RenderSettings, SimulationError

GYM_IDS = {"transfer_cube": "gym_aloha/AlohaTransferCube-v0", "insertion": "gym_aloha/AlohaInsertion-v0"}


@pytest.fixture(params=GYM_IDS)
def env(request):
    env = registry.suite("aloha_sim").make(request.param, RenderSettings("official", 480, 640))
    yield env
    env.close()


def reaching_actions(env, steps: int = 8) -> np.ndarray:
    generator = np.random.default_rng(0)
    start = env.state()
    moved = start + np.cumsum(generator.uniform(-0.05, 0.05, (steps, start.size)), axis=0)
    return np.clip(moved, env.spec.action_low, env.spec.action_high)


def test_states_rewards_and_images_equal_those_of_gym_aloha(env):
    import gym_aloha  # noqa: F401

    original = gymnasium.make(GYM_IDS[env.spec.name], obs_type="pixels_agent_pos").unwrapped
    observation, _ = original.reset(seed=11)
    env.reset(11)
    for action in reaching_actions(env):
        observation, reward, *_ = original.step(action)
        result = env.step(action)
        assert (result.reward, result.success) == (reward, reward == 4)
        np.testing.assert_array_equal(original._env.physics.data.qpos, env._sim.physics.data.qpos)
    np.testing.assert_array_equal(env.state(), observation["agent_pos"].astype(np.float32))
    np.testing.assert_array_equal(env.render("top"), observation["pixels"]["top"])


def test_reset_leaves_the_global_pose_of_gym_aloha_unchanged(env):
    before = list(sim.BOX_POSE)
    env.reset(3)
    env.reset(4)
    assert list(map(np.shape, sim.BOX_POSE)) == list(map(np.shape, before))


def test_stepping_does_not_render(env, monkeypatch):
    from dm_control.mujoco import Physics

    def refuse(*_, **__):
        raise AssertionError("a camera was rendered")

    monkeypatch.setattr(Physics, "render", refuse)
    env.reset(0)
    env.step(env.state().clip(env.spec.action_low, env.spec.action_high))
    assert env._renderer is None


def test_success_is_the_cube_in_the_left_gripper_above_the_table():
    env = registry.suite("aloha_sim").make("transfer_cube", RenderSettings("fast", 48, 64))
    env.reset(0)
    hold = env.state().clip(env.spec.action_low, env.spec.action_high)
    assert not env.step(hold).success
    physics = env._sim.physics
    finger = physics.named.data.geom_xpos["vx300s_left/10_left_gripper_finger"]
    won = False
    for offset in np.linspace(-0.04, 0.04, 9):  # Until the cube touches the finger, and nothing else.
        with physics.reset_context():
            physics.data.qpos[16:19] = finger + np.array([0, offset, 0])
        won = won or env.step(hold).success
    assert won
    env.close()


def test_unstable_physics_raises_an_error(env):
    env.reset(0)
    env._sim.physics.data.qvel[:] = np.nan
    with pytest.raises(SimulationError, match="physics became unstable at step 1"):
        env.step(env.state().clip(env.spec.action_low, env.spec.action_high))
    env.reset(0)
    assert np.all(np.isfinite(env.snapshot()))
