"""One live Meta-World task.

Axis letters: h image height, w image width, s state size, a action size, p privileged size.
"""

from __future__ import annotations

import metaworld.env_dict
import mujoco
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from envs.interface import (
    Env,
    RenderSettings,
    SimulationError,
    StepResult,
    TaskSpec,
    check_action,
    check_camera,
)
from envs.metaworld.tasks import UPSIDE_DOWN_CAMERAS
from envs.rendering import Renderer

# MuJoCo replaces a state that it cannot integrate by the initial one and goes on; these warnings tell.
UNSTABLE = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)


class MetaWorldEnv(Env):
    """A Meta-World task as its authors wrote it: physics, reward, success and observation are theirs.

    What is not theirs is the choice of the initial state, which follows the seed alone, and rendering.
    """

    def __init__(self, spec: TaskSpec, render: RenderSettings) -> None:
        self.spec = spec
        self._render_settings = render
        self._sim = metaworld.env_dict.ALL_V3_ENVIRONMENTS[spec.name]()
        # The multi-task benchmarks show the goal to the expert. The observation's bounds depend on that
        # and have been cached by the constructor.
        self._sim._partially_observable = False
        del self._sim.sawyer_observation_space
        self._sim._set_task_called = True  # Meta-World's own way is a pickled Task; `reset` does its work.
        # A reset moves bodies and sites of the model itself; these are the places they start from.
        self._body_pos = self._sim.model.body_pos.copy()
        self._site_pos = self._sim.model.site_pos.copy()
        self._renderer: Renderer | None = None
        self._observation: np.ndarray | None = None
        self._steps = 0
        self._closed = False

    def reset(self, seed: int) -> None:
        """Draw the task's random vector (where objects and goal are) from `seed` and build the scene.

        Meta-World builds a scene twice, because the fifty steps in which the hand moves to its place are
        simulated while things still stand where the last episode left them; the second time they stand
        where they belong. Here the first time also draws the vector, again and again until the task finds
        it good, and the second time keeps it. Given that vector, the result is what Meta-World's own
        `set_task` and `reset` build in a new simulation.
        """
        if self._closed:
            raise RuntimeError(f"{self.spec.suite}/{self.spec.name} has been closed; make a new one.")
        sim = self._sim
        sim.model.body_pos[:] = self._body_pos
        sim.model.site_pos[:] = self._site_pos
        mujoco.mj_resetData(sim.model, sim.data)
        sim.np_random = np.random.Generator(np.random.PCG64(seed))
        sim.seeded_rand_vec, sim._freeze_rand_vec = True, False  # Draw from np_random,
        sim.reset_model()
        sim._freeze_rand_vec = True  # and keep what was drawn.
        mujoco.mj_resetData(sim.model, sim.data)
        sim.curr_path_length = 0
        observation = sim.reset_model()
        # The observation holds two frames; before the first step both are the present.
        sim._prev_obs = observation[:18].copy()
        observation[18:36] = sim._prev_obs
        self._observation = observation
        self._steps = 0
        # Some tasks set joints last and leave the positions that follow from them to the first step. A
        # picture taken now would be of another scene: window-close with its window closed.
        mujoco.mj_kinematics(sim.model, sim.data)
        mujoco.mj_comPos(sim.model, sim.data)
        mujoco.mj_camlight(sim.model, sim.data)

    def step(self, action: Float32[np.ndarray, "a"] | Float64[np.ndarray, "a"]) -> StepResult:
        self._require_reset("step")
        check_action(self.spec, action)
        if self._steps == self.spec.max_steps:
            raise RuntimeError(
                f"{self.spec.suite}/{self.spec.name} ends after {self.spec.max_steps} steps; reset it first."
            )
        # In double precision, so that equal numbers move the hand alike whatever type they come in.
        self._observation, reward, _, _, info = self._sim.step(np.asarray(action, np.float64))
        self._steps += 1
        if any(self._sim.data.warning[kind].number for kind in UNSTABLE):
            raise SimulationError(
                f"{self.spec.suite}/{self.spec.name}: MuJoCo lost the physics at step {self._steps} "
                "(NaN, infinite or huge state) and started over from the initial state. Reset the episode."
            )
        return StepResult(reward=float(reward), success=bool(info["success"]))

    def state(self) -> Float32[np.ndarray, "s"]:
        return self._require_reset("state")[: self.spec.state_size].astype(np.float32)

    def privileged(self) -> Float64[np.ndarray, "p"]:
        return self._require_reset("privileged").copy()

    def render(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        check_camera(self.spec, camera)
        self._require_reset("render")
        if self._renderer is None:
            self._renderer = Renderer(self._sim.model, self._render_settings, upside_down=UPSIDE_DOWN_CAMERAS)
        return self._renderer.render(self._sim.data, camera)

    def snapshot(self) -> Float64[np.ndarray, "_"]:
        """MuJoCo's integration state. Where bodies without joints stand belongs to the seed, not to it."""
        self._require_reset("snapshot")
        model, data = self._sim.model, self._sim.data
        state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return state

    def close(self) -> None:
        self._closed = True
        self._observation = None
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._sim.close()

    def _require_reset(self, call: str) -> np.ndarray:
        """The latest observation of 39 numbers, which exists from the first reset until `close`."""
        if self._observation is None:
            done = (
                "has been closed; make a new one"
                if self._closed
                else "has no scene yet; call reset(seed) first"
            )
            raise RuntimeError(f"{call}: {self.spec.suite}/{self.spec.name} {done}.")
        return self._observation
