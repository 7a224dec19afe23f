"""Environment of a variant of LIBERO-plus: LIBERO's, with another camera, posture of the arm, or disturbed images.

Axis letters: h image height, w image width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import mujoco
import numpy as np
from jaxtyping import Float64, UInt8
from scipy.spatial.transform import Rotation

from simloop.envs.env_state import Value
from simloop.envs.interface import RenderSettings, TaskSpec
from simloop.envs.libero.simulation import LiberoEnv
from simloop.envs.libero_plus.image_noise import disturbed
from simloop.envs.libero_plus.variants import View, posture, variant

SCENE_CAMERA = "agentview"
PIVOT_M = np.array([0.0, 0.0, 0.8])
"""Point about which the camera is turned and from which it is moved away."""


class LiberoPlusEnv(LiberoEnv):
    """A task of LIBERO as a variant of LIBERO-plus changes it; physics and success are LIBERO's.

    Posture: as in LIBERO-plus, the recorded initial state still says where the arm starts. The other posture is where
    the controller's first goal and the resting posture of its null space are, towards which the arm moves.
    """

    def __init__(self, spec: TaskSpec, render: RenderSettings) -> None:
        self._variant = variant(spec.name)
        super().__init__(spec, render, task=self._variant.task)
        self._sim.robots[0].init_qpos = posture(self._variant.posture)
        self._seed = 0
        model = self._sim.mujoco_model
        self._camera = model.camera(SCENE_CAMERA).id
        rotation = Rotation.from_quat(model.cam_quat[self._camera], scalar_first=True)
        pose = displaced(model.cam_pos[self._camera], rotation, self._variant.view)
        self._pose = (
            pose if self._variant.axis else None
        )  # All variants have the rounded pose, the tasks do not.

    def _reset(self, seed: int) -> None:
        self._seed = seed
        super()._reset(seed)

    @contextlib.contextmanager
    def _observed(self) -> Iterator[mujoco.MjData]:
        """The scene with the displaced camera; saved states keep LIBERO's camera."""
        with super()._observed() as data:
            if self._pose is None:
                yield data
                return
            usual = data.cam_xpos[self._camera].copy(), data.cam_xmat[self._camera].copy()
            position, rotation = self._pose
            data.cam_xpos[self._camera], data.cam_xmat[self._camera] = position, rotation.as_matrix().ravel()
            try:
                yield data
            finally:
                data.cam_xpos[self._camera], data.cam_xmat[self._camera] = usual

    def render(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        """As `Env.render`; noise depends on the seed and the step alone."""
        image = super().render(camera)
        if camera != SCENE_CAMERA or not self._variant.noise:
            return image
        generator = np.random.default_rng([self._seed, self._steps, self._variant.noise])
        return disturbed(image, self._variant.noise, generator)

    def _save(self) -> dict[str, Value]:
        return {**super()._save(), "seed": self._seed}

    def _restore(self, values: Mapping[str, Value]) -> None:
        super()._restore(values)
        self._seed = int(np.asarray(values["seed"]))


def displaced(
    position: Float64[np.ndarray, "3"], rotation: Rotation, view: View
) -> tuple[Float64[np.ndarray, "3"], Rotation]:
    """Displace a camera as LIBERO-plus does, which rounds to four decimals after every turn and move.

    Args:
      position: In metres, in the frame of the world.
      rotation: From the frame of the camera to that of the world.
    """

    def moved(turn: Rotation, place: Float64[np.ndarray, "3"]) -> None:
        nonlocal position, rotation
        position = np.array([round(x, 4) for x in place.tolist()])  # np.round rounds 0.00005 otherwise.
        rotation = Rotation.from_quat([round(x, 4) for x in (turn * rotation).as_quat().tolist()])

    def vertical(degrees: int) -> Rotation:
        return Rotation.from_euler("z", degrees, degrees=True)

    def sideways(degrees: int) -> Rotation:
        return Rotation.from_euler("y", -degrees, degrees=True)

    if view.tilt_deg:
        tilt = sideways(view.tilt_deg)
        moved(tilt, tilt.apply(position - PIVOT_M) + PIVOT_M)
    turn = vertical(view.turn_deg)
    moved(turn, turn.apply(position))
    if view.distance_percent != 100:
        moved(Rotation.identity(), PIVOT_M + (position - PIVOT_M) * (view.distance_percent / 100))
    if view.yaw_deg:
        moved(vertical(view.yaw_deg), position)
    if view.pitch_deg:
        moved(sideways(view.pitch_deg), position)
    return position, rotation
