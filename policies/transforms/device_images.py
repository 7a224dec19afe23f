"""Resize images on the device, inside a compiled function. Kept for parity with the reference implementation.

Axis letters: b batch, h w image height and width, H W target height and width, c channels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from simloop.policies.transforms.preprocessing import fitted_size

BLACK = {np.dtype(np.uint8): 0, np.dtype(np.float32): -1.0}
"""Padding value by dtype; float images are in [-1, 1]."""


def resize_with_pad(
    images: UInt8[jax.Array, "*b h w c"] | Float32[jax.Array, "*b h w c"], height: int, width: int
) -> UInt8[jax.Array, "*b H W c"] | Float32[jax.Array, "*b H W c"]:
    """Scale images to fit, bilinearly with antialiasing, and centre them on black.

    Raises:
      TypeError: If the images are neither uint8 nor float32.
    """
    dtype = np.dtype(images.dtype)
    if dtype not in BLACK:
        raise TypeError(f"Images must be uint8, or float32 in [-1, 1]; got {dtype}.")
    *batch, h, w, channels = images.shape
    new_h, new_w = fitted_size(h, w, height, width)
    small = jax.image.resize(
        images.astype(jnp.float32),
        (*batch, new_h, new_w, channels),
        jax.image.ResizeMethod.LINEAR,
        antialias=True,
    )
    if dtype == np.uint8:
        small = jnp.clip(jnp.round(small), 0, 255).astype(jnp.uint8)
    else:
        small = jnp.clip(small, -1.0, 1.0)
    top, left = (height - new_h) // 2, (width - new_w) // 2
    margins = [(0, 0)] * len(batch) + [(top, height - new_h - top), (left, width - new_w - left), (0, 0)]
    return jnp.pad(small, margins, constant_values=BLACK[dtype])
