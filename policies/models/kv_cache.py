"""Cache of keys and values with a fixed number of slots.

Axis letters: l layers, b batch, s slots, t new tokens, n query heads, k key heads, h head width.
"""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int32

from simloop.policies.models.configs import GemmaConfig
from simloop.policies.models.projections import aligned_length
from simloop.policies.models.pytrees import pytree

Slots: TypeAlias = Float[Array, "l b s k h"] | tuple[Float[Array, "b s k h"], ...]
"""One array for all layers, or one per layer."""


@pytree
class KVCache:
    """Keys (rotated) and values of every layer. Writing returns a new cache.

    A loop over layers needs one array for all of them, and copies what it reads and writes. With
    unrolled layers, each layer has its own array: a loop over tokens or flow steps that carries the
    cache then writes into it in place.
    """

    k: Slots
    v: Slots
    end: Int32[Array, ""]
    """Next slot to write, equal in all rows."""
    attention: Float32[Array, "l b n t _s"] | tuple[Float32[Array, "b n t _s"], ...] | None = None
    """Weights with which the tokens written last attended to slots, or to each other; None unless the plan of the
    model keeps them. A loop that carries a cache must not carry them."""

    @property
    def slots(self) -> int:
        """Capacity in tokens."""
        return self.k[0].shape[1]


def empty_cache(
    config: GemmaConfig,
    *,
    batch: int,
    slots: int,
    dtype: DTypeLike,
    separate: bool = False,
    aligned: bool = False,
) -> KVCache:
    """Create a cache of zeros.

    Args:
      config: Of the experts, which share the sizes of heads.
      batch: Number of rows.
      slots: Capacity in tokens.
      dtype: Of keys and values.
      separate: Use one array per layer, for unrolled layers.
      aligned: Round the capacity up to a length that kernels can split.
    """
    if aligned:
        slots = aligned_length(slots)
    shape = (batch, slots, config.num_kv_heads, config.head_dim)
    end = jnp.zeros((), jnp.int32)
    if separate:
        k, v = (tuple(jnp.zeros(shape, dtype) for _ in range(config.depth)) for _ in range(2))
        return KVCache(k, v, end)
    return KVCache(jnp.zeros((config.depth, *shape), dtype), jnp.zeros((config.depth, *shape), dtype), end)


def write(
    slots: Float[Array, "b s k h"], new: Float[Array, "b t k h"], start: Int32[Array, ""]
) -> Float[Array, "b s k h"]:
    """Write keys or values of new tokens of one layer into slots start, start+1, ...

    They must fit: JAX would shift a start that is too late towards the front, over slots in use.
    """
    zero = jnp.zeros((), jnp.int32)
    return jax.lax.dynamic_update_slice(slots, new, (zero, start, zero, zero))
