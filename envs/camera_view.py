"""Where a camera is and how it projects: from points of the world to pixels of its image.

Axis letters: n points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

if TYPE_CHECKING:
    import mujoco

    from simloop.envs.interface import RenderSettings


@dataclass(frozen=True, eq=False)
class CameraView:
    """A pinhole camera without distortion, at one moment."""

    intrinsics: Float64[np.ndarray, "3 3"]
    """From the frame of the camera to pixels: u to the right and v downwards, from the upper left corner of the
    image. Pixel [row, column] covers v from row to row + 1 and u from column to column + 1."""
    extrinsics: Float64[np.ndarray, "3 4"]
    """From the world (m) to the frame of the camera (m): x to the right, y downwards, z forward, as in OpenCV."""
    height: int
    """Pixels of the image, as is `width`."""
    width: int

    def project(
        self, points: Float64[np.ndarray, "n 3"]
    ) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n"]]:
        """Project points of the world.

        Returns:
          Pixels (u, v), which may lie outside the image, and the distance in m along the optical axis. Pixels of points
          that are not in front of the camera are nan.
        """
        in_camera = points @ self.extrinsics[:, :3].T + self.extrinsics[:, 3]
        depth = in_camera[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = (in_camera @ self.intrinsics.T)[:, :2] / depth[:, None]
        return np.where(depth[:, None] > 0, pixels, np.nan), depth


def camera_view(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    camera: str,
    settings: RenderSettings,
    upside_down: bool = False,
) -> CameraView:
    """Where a camera of a model is, and how `simloop.envs.rendering.Renderer` projects it.

    Args:
      upside_down: Whether the image is rotated by 180 degrees, as `Renderer` does with cameras that are mounted so.
    """
    height, width = settings.height, settings.width
    index = model.camera(camera).id
    focal = height / 2 / np.tan(np.deg2rad(model.cam_fovy[index]) / 2)
    # MuJoCo's cameras look along -z, with y upwards.
    turn = np.diag([-1.0, 1.0, -1.0] if upside_down else [1.0, -1.0, -1.0])
    rotation = turn @ data.cam_xmat[index].reshape(3, 3).T
    return CameraView(
        np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]),
        np.column_stack([rotation, -rotation @ data.cam_xpos[index]]),
        height,
        width,
    )
