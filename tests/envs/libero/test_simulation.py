"""The suite `libero` compared with LIBERO: equal numbers and images, in a tenth of the time."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.interface import RenderSettings
from simloop.envs.libero.tasks import GROUP_OF_TASK, LIBERO_10, LIBERO_GOAL, LIBERO_OBJECT, LIBERO_SPATIAL

DRAWER = LIBERO_SPATIAL[4]
STOVE = LIBERO_10[2]
# One of each kind of scene and each kind of fixture.
COMPARED = [DRAWER, LIBERO_OBJECT[0], LIBERO_GOAL[0], *(LIBERO_10[i] for i in (0, 2, 3, 5, 9))]
IMAGES = RenderSettings("official", 256, 256)


def make(task: str, render: RenderSettings = IMAGES):
    return registry.suite("libero").make(task, render)


def some_actions(steps: int = 12) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (steps, 7))


def play(env, state: int, actions: np.ndarray) -> list[np.ndarray]:
    env.reset(state)
    seen = [env.snapshot(), env.state()]
    for action in actions:
        env.step(action)
        seen += [env.snapshot(), env.state()]
    return seen


@pytest.mark.parametrize("task", [pytest.param(task, marks=pytest.mark.slow) for task in COMPARED])
def test_states_and_images_equal_those_of_libero_bit_for_bit(task):
    import mujoco
    from libero.libero.envs import OffScreenRenderEnv

    from simloop.envs.libero.package import BDDL_FILES

    env, actions, state = make(task), some_actions(), 3
    play(env, 1, actions)  # The compared episode is not the first of its simulation.
    ours = play(env, state, actions)
    bddl = BDDL_FILES / GROUP_OF_TASK[task] / f"{task}.bddl"
    original = OffScreenRenderEnv(bddl_file_name=str(bddl), camera_heights=256, camera_widths=256)
    original.seed(7)
    original.env.reset()  # The reset of the wrapper hides exceptions.
    original.set_init_state(env._initial_states[state])
    for action in (*[[0] * 6 + [-1]] * 10, *actions):
        observation, *_ = original.step(action)
    model, data = original.sim.model._model, original.sim.data._data
    theirs = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, theirs, mujoco.mjtState.mjSTATE_INTEGRATION)
    np.testing.assert_array_equal(ours[-2], theirs)
    hand = [observation[f"robot0_{name}"] for name in ("eef_pos", "eef_quat", "gripper_qpos")]
    np.testing.assert_array_equal(ours[-1], np.concatenate(hand).astype(np.float32))
    for camera in env.spec.cameras:
        np.testing.assert_array_equal(env.render(camera), observation[f"{camera}_image"][::-1])
    env.close()
    original.close()


def test_episodes_are_independent_of_earlier_ones():
    actions, task = some_actions(), STOVE
    env = make(task, RenderSettings("fast", 64, 64))
    model = env._sim.mujoco_model
    first = [*play(env, 2, actions), env.render("agentview"), model.site_rgba.copy()]
    env.reset(5)
    knob = model.jnt_qposadr[model.joint("flat_stove_1_knob_joint").id] if _has_knob(model) else None
    for action in some_actions(20):
        if knob is not None:
            env._sim.mujoco_data.qpos[knob] = 1.0  # Switched on, so that the flame is visible.
        env.step(action)
    again = [*play(env, 2, actions), env.render("agentview"), model.site_rgba.copy()]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    env.close()


def _has_knob(model) -> bool:
    return any("knob" in model.joint(i).name for i in range(model.njnt))


def test_seeds_select_recorded_states_in_order_and_wrap_around():
    env = make(LIBERO_OBJECT[0], RenderSettings("fast", 64, 64))
    states = {}
    for seed in (0, 49, 50, 99):
        env.reset(seed)
        states[seed] = env.snapshot()
    assert np.array_equal(states[0], states[50])
    assert np.array_equal(states[49], states[99])
    assert not np.array_equal(states[0], states[49])
    env.close()


def test_success_is_the_object_in_its_target():
    env = make(LIBERO_OBJECT[0], RenderSettings("fast", 64, 64))
    env.reset(0)
    still = np.array([0.0] * 6 + [-1.0])
    assert not any(env.step(still).success for _ in range(3))
    soup, basket = (env._sim.obj_body_id[name] for name in ("alphabet_soup_1", "basket_1"))
    model, data = env._sim.mujoco_model, env._sim.mujoco_data
    address = model.jnt_qposadr[model.body_jntadr[soup]]
    data.qpos[address : address + 3] = data.xpos[basket] + (0, 0, 0.05)
    assert any(env.step(still).success for _ in range(10))
    data.qpos[address : address + 3] = data.xpos[basket] + (0.3, 0, 0.05)
    assert not env.step(still).success
    env.close()


def test_importing_neither_prompts_nor_writes(tmp_path):
    program = (
        "from simloop.envs import registry\n"
        "from simloop.envs.interface import RenderSettings\n"
        "import simloop.envs.libero.package as package\n"
        "print(len(package.PROBLEMS))"
    )
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    assert done.stderr == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "numba" not in str(path)] == []
