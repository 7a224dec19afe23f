"""One live task of ALOHA in simulation.

Axis letters: h image height, w image width, s state size, a action size, p privileged size.
"""

from __future__ import annotations

import envs.rendering  # isort: skip  (Chooses the OpenGL that dm_control would otherwise choose while imported.)

import mujoco
import numpy as np
from dm_control import mujoco as dm_mujoco
from dm_control.rl import control
from gym_aloha.constants import ASSETS_DIR, DT, START_ARM_POSE
from gym_aloha.tasks.sim import BimanualViperXTask, InsertionTask, TransferCubeTask
from gym_aloha.utils import sample_box_pose, sample_insertion_pose
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

SOLVED_REWARD = 4  # The highest of gym-aloha's stages: the cube handed over, the peg in the socket.
ARM_POSITIONS = len(START_ARM_POSE)  # Both arms with both fingers each come before the objects.


class _Unrendered(BimanualViperXTask):
    """A task that is told where its objects lie and draws no camera to be observed.

    gym-aloha reads the objects' poses from a global of its module, and draws three cameras at every step.
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


# Model, task, and where its objects lie for the seed of a NumPy RandomState.
TASK_PARTS = {
    "transfer_cube": ("bimanual_viperx_transfer_cube.xml", _TransferCube, sample_box_pose),
    "insertion": (
        "bimanual_viperx_insertion.xml",
        _Insertion,
        lambda seed: np.concatenate(sample_insertion_pose(seed)),
    ),
}


class AlohaEnv(Env):
    """A task of gym-aloha as its authors wrote it: physics, stages of reward and initial states are theirs.

    For seeds below 2**32 an episode is the one that gym-aloha's own `reset(seed)` starts.
    """

    def __init__(self, spec: TaskSpec, render: RenderSettings) -> None:
        self.spec = spec
        self._render_settings = render
        model, task, self._object_poses = TASK_PARTS[spec.name]
        self._task = task(random=0)  # Draws nothing; without a number it would be seeded by the machine.
        physics = dm_mujoco.Physics.from_xml_path(str(ASSETS_DIR / model))
        self._sim = control.Environment(physics, self._task, time_limit=float("inf"), control_timestep=DT)
        self._renderer: envs.rendering.Renderer | None = None
        self._ready = False
        self._closed = False
        self._steps = 0

    def reset(self, seed: int) -> None:
        if self._closed:
            raise RuntimeError(f"{self.spec.suite}/{self.spec.name} has been closed; make a new one.")
        # A RandomState takes 32 bits, or several words of them.
        words = seed if seed < 2**32 else [seed & 0xFFFFFFFF, seed >> 32]
        self._task.object_poses = self._object_poses(words)
        self._sim.reset()
        self._steps = 0
        self._ready = True

    def step(self, action: Float32[np.ndarray, "a"] | Float64[np.ndarray, "a"]) -> StepResult:
        self._require_reset("step")
        check_action(self.spec, action)
        if self._steps == self.spec.max_steps:
            raise RuntimeError(
                f"{self.spec.suite}/{self.spec.name} ends after {self.spec.max_steps} steps; reset it first."
            )
        self._steps += 1
        try:
            reward = self._sim.step(np.asarray(action, np.float64)).reward
        except control.PhysicsError as error:
            raise SimulationError(
                f"{self.spec.suite}/{self.spec.name}: MuJoCo lost the physics at step {self._steps} ({error}). "
                "Reset the episode."
            ) from error
        return StepResult(reward=float(reward), success=reward == SOLVED_REWARD)

    def state(self) -> Float32[np.ndarray, "s"]:
        self._require_reset("state")
        return self._task.get_qpos(self._sim.physics).astype(np.float32)

    def privileged(self) -> Float64[np.ndarray, "p"]:
        """Position (m) and quaternion (w first) of the cube, or of the peg and then the socket."""
        self._require_reset("privileged")
        return self._task.get_env_state(self._sim.physics)

    def render(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        check_camera(self.spec, camera)
        self._require_reset("render")
        physics = self._sim.physics
        if self._renderer is None:
            self._renderer = envs.rendering.Renderer(physics.model.ptr, self._render_settings)
        return self._renderer.render(physics.data.ptr, camera)

    def snapshot(self) -> Float64[np.ndarray, "_"]:
        self._require_reset("snapshot")
        model, data = self._sim.physics.model.ptr, self._sim.physics.data.ptr
        state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return state

    def close(self) -> None:
        self._closed, self._ready = True, False
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._sim.close()

    def _require_reset(self, call: str) -> None:
        if not self._ready:
            done = (
                "has been closed; make a new one"
                if self._closed
                else "has no scene yet; call reset(seed) first"
            )
            raise RuntimeError(f"{call}: {self.spec.suite}/{self.spec.name} {done}.")
