"""Environments of gymnasium as tasks: what is a camera, the state, success and the end of an episode."""

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv

from simloop.envs.conformance import rendering_does_not_affect_the_physics
from simloop.envs.env_state import EnvState, StateError
from simloop.envs.gymnasium_suite import GymError, GymMapping, GymSuite
from simloop.envs.interface import ActionError, RenderSettings

ID = "simloop-test/SlideBlock-v3"
RENDER = RenderSettings("fast", 24, 32)


class Slide(gymnasium.Env):
    """A block on a line, which falls off at 1.5 and reports success near 1."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Dict(
        {
            "pixels": spaces.Dict({"top": spaces.Box(0, 255, (48, 64, 3), np.uint8)}),
            "agent_pos": spaces.Box(-9, 9, (2,), np.float64),
            "mode": spaces.Discrete(3),
        }
    )
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def __init__(self, render_mode=None, key="is_success", noisy=False):
        self.key, self.noisy = key, noisy

    def observe(self):
        image = np.zeros((48, 64, 3), np.uint8)
        image[:, 32:] = 200
        return {"pixels": {"top": image}, "agent_pos": np.array([self.x, 0.5]), "mode": 1}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.1, 0.1)
        return self.observe(), {}

    def step(self, action):
        self.x += float(action[0]) + (np.random.rand() if self.noisy else 0)  # noqa: NPY002
        return self.observe(), self.x, self.x > 1.5, False, {self.key: abs(self.x - 1) < 0.05}

    def render(self):
        return np.full((10, 10, 3), 99, np.uint8)


@pytest.fixture(autouse=True)
def registered():
    gymnasium.register(ID, Slide, max_episode_steps=4)
    yield
    del gymnasium.registry[ID]


def make(**mapping):
    return GymSuite([ID], GymMapping(**{"action_limit": 1.0, **mapping})).make(ID, RENDER)


def act(env, value):
    return env.step(np.float32([value]))


def test_the_task_has_what_gymnasium_says():
    suite = GymSuite([ID], GymMapping(action_limit=1.0))
    (task,) = suite.tasks()
    assert (task.suite, task.name, task.instruction, task.max_steps) == ("gym", ID, "slide block", 4)
    assert task.control_hz == 10
    assert task.cameras == ("pixels/top", "render")
    assert task.state_names == ("agent_pos[0]", "agent_pos[1]", "mode[0]", "mode[1]", "mode[2]")
    assert (task.action_low, task.action_high) == ((-1.0,), (1.0,))
    assert suite.packages[0] == "gymnasium"
    assert suite.groups() == {"all": (ID,)}


def test_the_mapping_chooses():
    env = make(cameras=("render",), state=("agent_pos",), instruction="push it", max_steps=9)
    assert env.spec.cameras == ("render",)
    assert env.spec.state_names == ("agent_pos[0]", "agent_pos[1]")
    assert (env.spec.instruction, env.spec.max_steps) == ("push it", 9)


def test_images_have_the_size_of_the_settings():
    env = make()
    env.reset(0)
    top = env.render("pixels/top")
    assert top.shape == (24, 32, 3)
    assert (top[0, 0, 0], top[0, -1, 0]) == (0, 200)
    assert env.render("render").tolist() == np.full((24, 32, 3), 99).tolist()


def test_success_is_read_from_info_by_default():
    env = make()
    env.reset(0)
    assert not act(env, 0.5).success
    assert act(env, 1 - env.state()[0]).success


@pytest.mark.parametrize(
    ("rule", "actions", "successes"),
    [
        ("terminated", [1, 1, 0, 0], [False, True, False, False]),
        ("reward>0.8", [1, -1, 0, 0], [True, False, False, False]),
        ("return>1.5", [1, 0, -1, 0], [False, False, False, True]),  # Decided at the end.
        ("return>100", [1, 0, 0, 0], [False] * 4),
    ],
)
def test_success_follows_the_rule(rule, actions, successes):
    env = make(success=rule)
    env.reset(1)
    assert [act(env, action).success for action in actions] == successes


def test_a_terminated_episode_holds_until_its_step_limit():
    env = make()
    env.reset(0)
    act(env, 1)
    act(env, 1)
    before = env.snapshot()
    assert (act(env, -1).reward, act(env, -1).success) == (0.0, False)
    assert np.array_equal(env.snapshot(), before)
    with pytest.raises(RuntimeError, match="ended after 4 steps"):
        act(env, 0)


def test_a_saved_state_continues_in_another_environment():
    env, other = make(), make()
    env.reset(3)
    act(env, 0.1)
    saved = EnvState.from_bytes(env.save().to_bytes())
    act(env, 0.2)
    other.restore(saved)
    act(other, 0.2)
    assert np.array_equal(env.snapshot(), other.snapshot())
    with pytest.raises(ActionError, match="shape"):
        other.step(np.zeros(2))


def test_an_environment_that_does_not_repeat_itself_is_found():
    env = make(make={"noisy": True})
    env.reset(3)
    act(env, 0.1)
    with pytest.raises(StateError, match="does not repeat its episodes"):
        env.restore(env.save())


def test_discrete_actions_are_the_largest_of_a_vector():
    suite = GymSuite(["CartPole-v1"], GymMapping(success="return>=475"))
    env = suite.make("CartPole-v1", RENDER)
    assert env.spec.action_size == 2
    env.reset(0)
    right = env.step(np.float32([-1, 1]))
    assert right.reward == 1.0
    assert env.state()[1] > 0  # Velocity of the cart.


@pytest.mark.parametrize(
    ("mapping", "complaint"),
    [
        ({"make": {"key": "other"}}, "does not say what success is; its info has other. Write success="),
        ({"success": "sometimes"}, "got sometimes"),
        ({"action_limit": 0.0}, "actions without bounds; write action_limit=X"),
        ({"cameras": ("side",)}, "observes agent_pos, mode, pixels/top and renders; got 'side'"),
        ({"make": {"no_such": 1}}, "cannot be made with .*no_such"),
    ],
)
def test_asks_for_what_the_environment_does_not_say(mapping, complaint):
    with pytest.raises(GymError, match=complaint):
        make(**mapping)


def test_an_unknown_environment_is_named():
    with pytest.raises(GymError, match="no environment Nowhere-v0"):
        GymSuite(["Nowhere-v0"]).tasks()


class Callback(ReacherEnv):
    """Draws a goal as the environments of gymnasium-robotics do: MuJoCo's data are computed anew."""

    def render(self):
        mujoco.mj_forward(self.model, self.data)
        return np.full((10, 10, 3), 99, np.uint8)


def test_drawing_does_not_change_the_physics():
    gymnasium.register("simloop-test/Callback-v0", Callback, max_episode_steps=4)
    try:
        task = "simloop-test/Callback-v0"
        env = GymSuite([task], GymMapping(success="terminated")).make(task, RENDER)
        rendering_does_not_affect_the_physics(env)
    finally:
        del gymnasium.registry["simloop-test/Callback-v0"]
