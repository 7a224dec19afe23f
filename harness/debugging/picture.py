"""Images that notebooks display and files hold.

Axis letters: a action size, h image height, w image width.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from simloop.harness.errors import SimloopError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simloop.envs.env_state import EnvState
    from simloop.envs.interface import Env


class PictureError(SimloopError):
    """Raised for an image that cannot be written."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An RGB image."""

    pixels: UInt8[np.ndarray, "h w 3"]

    @classmethod
    def beside(cls, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Picture:
        """Set images of equal height side by side."""
        return cls(np.concatenate(images, axis=1))

    @classmethod
    def of(cls, figure: Figure) -> Picture:
        """Draw a figure of matplotlib."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return cls(np.asarray(canvas.buffer_rgba())[..., :3].copy())

    def save(self, file: str | Path) -> None:
        """Write the image to a file in the format of its suffix.

        Raises:
          PictureError: If the folder does not exist or cannot be written to, or the suffix names no format.
        """
        from PIL import Image

        try:
            Image.fromarray(self.pixels).save(file)
        except (OSError, ValueError) as error:
            raise PictureError(f"{file} cannot be written: {error}.") from error

    def png(self) -> bytes:
        """Encode the image as PNG."""
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(self.pixels).save(stream, "png")
        return stream.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()

    def __repr__(self) -> str:
        """Size in pixels."""
        height, width, _ = self.pixels.shape
        return f"Picture({width} x {height})"


def film(
    env: Env, start: EnvState, actions: Sequence[Float32[np.ndarray, "a"]], cameras: Sequence[str]
) -> bytes:
    """Execute actions from a saved state and film cameras side by side; `env` returns to its present state.

    Returns:
      An mp4 file with a frame of the start and one of each step.
    """
    from simloop.harness.rollout.video import CRF
    from simloop.policies.files.video import VideoEncoder

    def frame() -> UInt8[np.ndarray, "h w 3"]:
        return Picture.beside([env.render(camera) for camera in cameras]).pixels

    now = env.save()
    encoder = VideoEncoder(round(env.spec.control_hz), CRF, pixel_format="yuv420p", options={})
    env.restore(start)
    try:
        encoder.add(frame())
        for action in actions:
            env.step(action)
            encoder.add(frame())
    finally:
        env.restore(now)
    return encoder.finish()
