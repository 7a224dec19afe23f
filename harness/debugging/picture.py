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

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        """Write the image to a file in the format of its suffix."""
        from PIL import Image

        Image.fromarray(self.pixels).save(file)

    def _repr_png_(self) -> bytes:
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(self.pixels).save(stream, "png")
        return stream.getvalue()

    def __repr__(self) -> str:
        """Size in pixels."""
        height, width, _ = self.pixels.shape
        return f"Picture({width} x {height})"
