"""Control steps compared with those of robosuite and LIBERO, over contacts and a closing gripper."""

import mujoco
import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.interface import RenderSettings
from simloop.envs.libero.tasks import GROUP_OF_TASK, LIBERO_OBJECT

STEPS, STATE = 50, 3


def make(task: str):
    return registry.suite("libero").make(task, RenderSettings("fast", 64, 64))


def lowering_actions() -> np.ndarray:
    """Random actions that lower the hand, with the gripper closing and opening."""
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, 7))
    actions[:, 2] = -np.abs(actions[:, 2])
    actions[::5, 3:6] = 0.0  # The goal of the orientation stays where it is.
    actions[10:25, 6], actions[25:, 6] = 1.0, -np.abs(actions[25:, 6])
    return actions


def integration_state(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    return state


def test_states_equal_those_of_the_step_of_robosuite_bit_for_bit():
    from simloop.envs.libero.problem import Problem

    env = make(LIBERO_OBJECT[0])
    episodes = []
    for step in (env._sim.step, super(Problem, env._sim).step):
        env.reset(STATE)
        seen = []
        for action in lowering_actions():
            step(action)
            seen += [env.snapshot(), env.state()]
        episodes.append([*seen, env._sim.robots[0].gripper.current_action])
    assert all(map(np.array_equal, *episodes))
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("task", GROUP_OF_TASK)
def test_states_and_success_equal_those_of_the_unmodified_package_bit_for_bit(task: str, monkeypatch):
    """The solver begins at zero in both: LIBERO's own seeds differ by what its random reset leaves there."""
    from libero.libero.envs.env_wrapper import ControlEnv

    from simloop.envs.libero.package import BDDL_FILES
    from simloop.envs.libero.problem import Problem

    start_from = Problem.start_from

    def start_cold(problem: Problem, state: np.ndarray) -> None:
        start_from(problem, state)
        problem.mujoco_data.qacc_warmstart[:] = 0

    monkeypatch.setattr(Problem, "start_from", start_cold)

    env = make(task)
    env.reset(STATE)
    bddl = BDDL_FILES / GROUP_OF_TASK[task] / f"{task}.bddl"
    original = ControlEnv(bddl_file_name=str(bddl), use_camera_obs=False, has_offscreen_renderer=False)
    original.seed(7)
    original.env.reset()  # The reset of the wrapper hides exceptions.
    original.set_init_state(env._initial_states[STATE])
    original.sim.data._data.qacc_warmstart[:] = 0
    for _ in range(10):
        original.step([0] * 6 + [-1])
    touching = set()
    for action in lowering_actions():
        result = env.step(action)
        _, reward, success, _ = original.step(action)
        assert np.array_equal(
            env.snapshot(), integration_state(original.sim.model._model, original.sim.data._data)
        )
        assert (result.reward, result.success) == (reward, success)
        touching.add(env._physics[1].ncon)
    assert len(touching) > 1
    env.close()
    original.close()
