"""Environment of an ALOHA task in simulation.

Axis letters: s state size, a action size, p privileged size.
"""

from __future__ import annotations

import simloop.envs.rendering  # noqa: F401  # isort: skip  (Selects OpenGL before dm_control does.)

from collections.abc import Mapping

import mujoco
import numpy as np
from dm_control import mujoco as dm_mujoco
from dm_control.mujoco import wrapper
from dm_control.rl import control
from gym_aloha.constants import ASSETS_DIR, DT, START_ARM_POSE
from gym_aloha.tasks.sim import BimanualViperXTask, InsertionTask, TransferCubeTask
from gym_aloha.utils import sample_box_pose, sample_insertion_pose
from jaxtyping import Float32, Float64

from simloop.envs.env_state import Value, set_attributes
from simloop.envs.interface import RenderSettings, StepResult, TaskSpec
from simloop.envs.mujoco_env import MujocoEnv
from simloop.envs.scene import Gripper, SceneReader, Tip, movable, subtree
from simloop.envs.shared_model import ModelUse, share_model

FINGER_M, CLOSED_M = (
    0.08,
    0.021,
)  # Length of a finger, and its distance from the middle when the gripper is closed.
SOLVED_REWARD = 4  # The last of gym-aloha's stages: the cube handed over, the peg in the socket.
ARM_POSITIONS = len(START_ARM_POSE)  # Joint positions of both arms, before those of the objects.


class _Unrendered(BimanualViperXTask):
    """A task with object poses in an attribute, and without images in its observation.

    gym-aloha reads the poses from a global variable and renders three cameras at every step.
    """

    object_poses: np.ndarray

    def initialize_episode(self, physics: dm_mujoco.Physics) -> None:
        with physics.reset_context():
            physics.data.qpos[:ARM_POSITIONS] = START_ARM_POSE
            physics.data.ctrl[:] = START_ARM_POSE
            physics.data.qpos[ARM_POSITIONS:] = self.object_poses

    def get_observation(self, physics: dm_mujoco.Physics) -> dict[str, np.ndarray]:
        return {}


class _TransferCube(_Unrendered, TransferCubeTask):
    pass


class _Insertion(_Unrendered, InsertionTask):
    pass


# Model, task, and object poses for the seed of a NumPy RandomState.
TASK_PARTS = {
    "transfer_cube": ("bimanual_viperx_transfer_cube.xml", _TransferCube, sample_box_pose),
    "insertion": (
        "bimanual_viperx_insertion.xml",
        _Insertion,
        lambda seed: np.concatenate(sample_insertion_pose(seed)),
    ),
}


class AlohaEnv(MujocoEnv):
    """A task of gym-aloha with the physics, reward and initial states of gym-aloha itself.

    For seeds below 2**32 episodes equal those of gym-aloha's own `reset(seed)`.
    """

    def __init__(self, spec: TaskSpec, render: RenderSettings) -> None:
        super().__init__(spec, render)
        model, task, self._object_poses = TASK_PARTS[spec.name]
        self._task = task(random=0)  # Unused, but None would draw a seed from the operating system.
        path = str(ASSETS_DIR / model)
        self._use = share_model(path, (), lambda: mujoco.MjModel.from_xml_path(path))
        physics = dm_mujoco.Physics.from_model(wrapper.MjModel(self._use.model))
        self._sim = control.Environment(physics, self._task, time_limit=float("inf"), control_timestep=DT)

    @property
    def _model_use(self) -> ModelUse:
        return self._use

    @property
    def _physics(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self._sim.physics.model.ptr, self._sim.physics.data.ptr

    def _reset(self, seed: int) -> None:
        # A RandomState takes 32 bits, or several words of them.
        words = seed if seed < 2**32 else [seed & 0xFFFFFFFF, seed >> 32]
        self._task.object_poses = self._object_poses(words)
        self._sim.reset()

    def _step(self, action: Float64[np.ndarray, "a"]) -> StepResult:
        try:
            reward = self._sim.step(action).reward
        except control.PhysicsError as error:
            raise self._unstable(f"at step {self._steps}", str(error)) from error
        return StepResult(reward=float(reward), success=reward == SOLVED_REWARD)

    def _state(self) -> Float32[np.ndarray, "s"]:
        return np.asarray(self._task.get_qpos(self._sim.physics), np.float32)

    def _privileged(self) -> Float64[np.ndarray, "p"]:
        """Position (m) and quaternion (w first) of the cube, or of the peg and then the socket."""
        return np.asarray(self._task.get_env_state(self._sim.physics))

    def _save(self) -> dict[str, Value]:
        return {"_step_count": self._sim._step_count}

    def _restore(self, values: Mapping[str, Value]) -> None:
        set_attributes(self._sim, values)

    def _scene_reader(self) -> SceneReader:
        model, arms = self._physics[0], ("vx300s_left", "vx300s_right")
        grippers = []
        for arm in arms:
            hand, left, right = (
                model.body(f"{arm}/{part}_link").id for part in ("gripper", "left_finger", "right_finger")
            )
            grippers.append(
                Gripper(
                    subtree(model, hand),
                    (subtree(model, left), subtree(model, right)),
                    (Tip(left, (FINGER_M, -CLOSED_M, 0)), Tip(right, (FINGER_M, CLOSED_M, 0))),
                )
            )
        return SceneReader(model, movable(model, arms), grippers)

    def _free(self) -> None:
        self._sim.close()
