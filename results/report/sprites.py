"""Sheets of images: all images of a camera in one file, row by row.

Axis letters: h image height, w image width.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

MAX_SIDE = 16383
"""Pixels of a side of a WebP image."""


def columns_of(count: int) -> int:
    """Number of images in a row of a sheet of `count` images."""
    return max(1, math.isqrt(max(count - 1, 0)) + 1)


def sheet(images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> bytes:
    """Images of equal size as one lossless WebP image; the last row may have empty places.

    Raises:
      ValueError: If there are too many, too large or unequal images.
    """
    columns = columns_of(len(images))
    rows = -(-len(images) // columns)
    height, width, _ = images[0].shape
    if max(rows * height, columns * width) > MAX_SIDE:
        raise ValueError(f"{len(images)} images of {width} x {height} pixels do not fit on a sheet.")
    pixels = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        pixels[row * height : (row + 1) * height, column * width : (column + 1) * width] = image
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "webp", lossless=True, quality=0, method=0)
    return stream.getvalue()
