"""Environment of a Meta-World task.

Axis letters: s state size, a action size, p privileged size.
"""

from __future__ import annotations

import simloop.envs.rendering  # noqa: F401  # isort: skip  (Selects OpenGL before MuJoCo imports another one.)

from collections.abc import Mapping
from typing import Any

import metaworld.env_dict
import mujoco
import numpy as np
from jaxtyping import Float32, Float64

from simloop.envs.env_state import Value, attributes, set_attributes
from simloop.envs.interface import RenderSettings, StepResult, TaskSpec
from simloop.envs.metaworld.tasks import UPSIDE_DOWN_CAMERAS
from simloop.envs.mujoco_env import MujocoEnv
from simloop.envs.scene import Gripper, SceneReader, Tip, movable, subtree
from simloop.envs.shared_model import ModelUse, share_model

FINGER_M, PAD_M = 0.045, 0.006  # From the middle of a claw to its end, and to the inner side of its pad.
CHANGED_IN_MODEL = ("body_pos", "site_pos")  # Where a reset puts fixtures and goals.


class Sharing:
    """Mixin for Meta-World's environment classes: environments of a task share its compiled model."""

    fullpath: str
    model_use: ModelUse

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        path = self.fullpath
        self.model_use = share_model(path, CHANGED_IN_MODEL, lambda: mujoco.MjModel.from_xml_path(path))
        self.model_use.enter()
        return self.model_use.model, mujoco.MjData(self.model_use.model)


class MetaWorldEnv(MujocoEnv):
    """A Meta-World task with the physics, reward, success and observation of Meta-World itself.

    Only the choice of the initial state, which depends on the seed alone, and rendering differ.
    """

    _upside_down_cameras = UPSIDE_DOWN_CAMERAS

    def __init__(self, spec: TaskSpec, render: RenderSettings) -> None:
        super().__init__(spec, render)
        task = metaworld.env_dict.ALL_V3_ENVIRONMENTS[spec.name]
        self._sim: Any = type(task.__name__, (Sharing, task), {})()
        # The expert needs the goal in the observation, as in the multi-task benchmarks. The constructor has cached
        # bounds of the observation without it.
        self._sim._partially_observable = False
        del self._sim.sawyer_observation_space
        self._sim._set_task_called = True  # `_reset` replaces Meta-World's `set_task`, which takes a pickle.
        self._observation = np.zeros(0)
        """The latest observation of Meta-World, of `PRIVILEGED_SIZE` numbers."""

    @property
    def _model_use(self) -> ModelUse:
        use: ModelUse = self._sim.model_use
        return use

    @property
    def _physics(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self._sim.model, self._sim.data

    def _reset(self, seed: int) -> None:
        """Draw the task's random vector (positions of objects and goal) from `seed` and build the scene.

        Meta-World builds a scene twice, because it simulates fifty steps, in which the hand moves to its initial
        pose, before it places the objects: only in the second pass do the objects stand in their places then. Here
        the first pass also draws the vector, until the task accepts it, and the second pass reuses it. Given that
        vector, the result equals that of Meta-World's `set_task` and `reset` in a new simulation.
        """
        sim = self._sim
        self._model_use.reset()
        mujoco.mj_resetData(sim.model, sim.data)
        sim.np_random = np.random.Generator(np.random.PCG64(seed))
        sim.seeded_rand_vec, sim._freeze_rand_vec = True, False  # Draw from np_random ...
        sim.reset_model()
        sim._freeze_rand_vec = True  # ... and reuse the vector.
        mujoco.mj_resetData(sim.model, sim.data)
        sim.curr_path_length, sim._last_stable_obs = 0, None
        observation = sim.reset_model()
        # The observation stacks two frames, which are equal before the first step.
        sim._prev_obs = observation[:18].copy()
        observation[18:36] = sim._prev_obs
        self._observation = observation
        # Some tasks set joints last and leave positions to be updated by the first step. An image would show
        # another scene without this update: window-close with its window closed.
        mujoco.mj_kinematics(sim.model, sim.data)
        mujoco.mj_comPos(sim.model, sim.data)
        mujoco.mj_camlight(sim.model, sim.data)

    def _step(self, action: Float64[np.ndarray, "a"]) -> StepResult:
        self._observation, reward, _, _, info = self._sim.step(action)
        return StepResult(reward=float(reward), success=bool(info["success"]))

    def _state(self) -> Float32[np.ndarray, "s"]:
        return self._observation[: self.spec.state_size].astype(np.float32)

    def _privileged(self) -> Float64[np.ndarray, "p"]:
        return self._observation.copy()

    def _save(self) -> dict[str, Value]:
        # Each task has its own attributes for its reward: initial poses, stages, distances.
        return {**attributes(self._sim), "observation": self._observation.copy()}

    def _restore(self, values: Mapping[str, Value]) -> None:
        kept = dict(values)
        self._observation = np.array(kept.pop("observation"))
        set_attributes(self._sim, kept)

    def _moved(self) -> None:
        now = self._sim._get_curr_obs_combined_no_goal()
        self._observation[: len(now)] = now

    def _scene_reader(self) -> SceneReader:
        model = self._sim.model
        hand, left, right = (model.body(name).id for name in ("hand", "leftclaw", "rightclaw"))
        gripper = Gripper(
            subtree(model, hand),
            (subtree(model, left), subtree(model, right)),
            (Tip(left, (FINGER_M, -PAD_M, 0)), Tip(right, (FINGER_M, PAD_M, 0))),
        )
        return SceneReader(
            model, movable(model, ["base"]), [gripper], lambda _: {"goal": self._sim._target_pos}
        )

    def _free(self) -> None:
        self._sim.close()
