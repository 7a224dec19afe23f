"""Compress camera images for viewers."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

QUALITY = 90
"""Quality of JPEG."""


def jpeg(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encode an image as JPEG with colours at full resolution."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=QUALITY, subsampling=0)
    return content.getvalue()
