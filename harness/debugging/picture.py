"""Images that notebooks display and files hold.

Axis letters: h image height, w image width.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from simloop.harness.errors import SimloopError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
