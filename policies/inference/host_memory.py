"""Arrays of JAX as NumPy sees them, where both share memory: moving weights about needs no compiled program there.

A program per shape costs XLA 20 ms each, seconds for the hundreds of shapes of a model.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def in_host_memory(array: Any) -> bool:
    """Whether an array lies in the memory of this process as a whole, not split, and not traced."""
    return (
        isinstance(array, jax.Array)
        and not isinstance(array, jax.core.Tracer)
        and len(array.devices()) == 1
        and next(iter(array.devices())).platform == "cpu"
    )


def from_host(made: np.ndarray, like: jax.Array) -> jax.Array:
    """Put an array of NumPy on the device of another. Their memory may be shared; `made` must not be changed."""
    return jax.device_put(made, like.sharding)


def share_memory(a: jax.Array, b: jax.Array) -> bool:
    """Whether two arrays in host memory overlap there."""
    return in_host_memory(a) and in_host_memory(b) and np.may_share_memory(np.asarray(a), np.asarray(b))
