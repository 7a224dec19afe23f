"""Keys and values of tokens that were already read: a value with a fixed number of slots.

Axis letters: l layers, b batch, s slots, t new tokens, k key heads, h head width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int32

from policies.configs import GemmaConfig
from policies.pytrees import pytree


@pytree
class KVCache:
    """Keys (rotated) and values of every layer. Writing returns a new cache."""

    k: Float[Array, "l b s k h"]
    v: Float[Array, "l b s k h"]
    end: Int32[Array, ""]
    """The first slot not written yet, in every row."""

    @property
    def slots(self) -> int:
        """How many tokens fit."""
        return self.k.shape[2]


def empty_cache(config: GemmaConfig, *, batch: int, slots: int, dtype: DTypeLike) -> KVCache:
    """A cache of zeros."""
    shape = (config.depth, batch, slots, config.num_kv_heads, config.head_dim)
    return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((), jnp.int32))


def write(
    slots: Float[Array, "b s k h"], new: Float[Array, "b t k h"], start: Int32[Array, ""]
) -> Float[Array, "b s k h"]:
    """Put the keys or values of new tokens of one layer into slots start, start+1, ...

    There must be room: JAX would move a start that is too late forward, over slots in use.
    """
    zero = jnp.zeros((), jnp.int32)
    return jax.lax.dynamic_update_slice(slots, new, (zero, start, zero, zero))
