"""Attention over tokens: masks, rotary positions, and the weighted sum.

Axis letters: b batch, t query tokens, s key slots, n query heads, k key heads, g = n/k, h head width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int

MASKED_LOGIT = -2.3819763e38
"""Value of masked logits. It is finite, so that a row that sees nothing is uniform instead of NaN."""

LONGEST_WAVELENGTH = 10_000.0

LOGITS_AT_ONCE = 2**21
"""Logits of a batch from which its rows attend one after another: 8 MB, about the size of the caches of a CPU."""


def block_mask(
    valid: Bool[Array, "b t"], starts_block: Bool[Array | np.ndarray, "b t"] | Bool[np.ndarray, " t"]
) -> Bool[Array, "b t t"]:
    """Build a block mask: a token sees the valid tokens of its own block and of the blocks before it.

        starts_block   0 0 0 | 1 | 1 0 0
                       prefix state actions

    All zeros is full attention, all ones is causal.
    """
    starts = jnp.broadcast_to(starts_block, valid.shape)
    block = jnp.cumsum(starts.astype(jnp.int32), axis=1)
    earlier = block[:, None, :] <= block[:, :, None]
    return earlier & valid[:, None, :] & valid[:, :, None]


class Rotation(NamedTuple):
    """Sines and cosines of rotary positions."""

    sin: Float32[Array, "b t 1 half"]
    cos: Float32[Array, "b t 1 half"]


def rotation(positions: Int[Array, "b t"], head_dim: int) -> Rotation:
    """Compute sines and cosines of rotary positions (arXiv:2104.09864), in float32.

    Position / timescale is a true division. XLA would turn one by a broadcast constant into a product
    with its reciprocal, which at position 800 is off by 1e-5 radians: ten times the rounding of
    everything else in float32.
    """
    exponent = np.arange(head_dim // 2, dtype=np.float32) * np.float32(2.0 / head_dim)
    timescale = jnp.asarray(LONGEST_WAVELENGTH**exponent, jnp.float32)
    position = positions.astype(jnp.float32)[:, :, None, None]
    position = jnp.broadcast_to(position, (*positions.shape, 1, head_dim // 2))
    divisor = jnp.broadcast_to(timescale[None, None, None, :], position.shape)
    angle = position / jax.lax.optimization_barrier(divisor)
    return Rotation(jnp.sin(angle), jnp.cos(angle))


def rotate(x: Float[Array, "b t n h"], by: Rotation) -> Float32[Array, "b t n h"]:
    """Rotate pairs made of the first and second half of each head; returns float32.

    The halves are split before they are widened: otherwise XLA would drop the rounding of `x` to bfloat16 if `x` is
    a sum (as of a projection and its adapter), which the published code keeps.
    """
    first, second = (half.astype(jnp.float32) for half in jnp.split(x, 2, axis=-1))
    return jnp.concatenate([first * by.cos - second * by.sin, second * by.cos + first * by.sin], axis=-1)


def attend(
    q: Float[Array, "b t n h"],
    k: Float[Array, "b s k h"],
    v: Float[Array, "b s k h"],
    mask: Bool[Array, "b t s"],
) -> Float[Array, "b t n h"]:
    """Average the values by softmax(q · k), several query heads to a key head.

    `q` is scaled already and may be wider than keys and values. Logits and softmax are float32; the
    weights are rounded to the dtype of the values, which is that of the result.
    """
    return attend_keeping_weights(q, k, v, mask)[0]


def attend_keeping_weights(
    q: Float[Array, "b t n h"],
    k: Float[Array, "b s k h"],
    v: Float[Array, "b s k h"],
    mask: Bool[Array, "b t s"],
) -> tuple[Float[Array, "b t n h"], Float32[Array, "b n t s"]]:
    """Compute `attend`, and return its weights beside the result, before they are rounded; their rows sum to one."""
    batch, queries, heads, width = q.shape
    kv_heads = k.shape[2]
    grouped = q.reshape(batch, queries, kv_heads, heads // kv_heads, width)
    logits = jnp.einsum("btkgh,bskh->bkgts", grouped, k.astype(q.dtype), preferred_element_type=jnp.float32)
    logits = jnp.where(mask[:, None, None], logits, MASKED_LOGIT)
    weights = jax.nn.softmax(logits, axis=-1)
    out = jnp.einsum("bkgts,bskh->btkgh", weights.astype(v.dtype), v).reshape(batch, queries, heads, width)
    return out, weights.reshape(batch, heads, *weights.shape[3:])


def attend_in_place(
    q: Float[Array, "b t n h"],
    k: Float[Array, "b s k h"],
    v: Float[Array, "b s k h"],
    mask: Bool[Array, "b t s"],
) -> Float[Array, "b t n h"]:
    """Compute `attend`, up to rounding, with logits laid out as the two products read and write them.

    In float32 the sum of values is divided, which has fewer elements than the weights. On CPUs rows of a
    large batch attend one after another, so that logits stay in the caches.
    """
    rows, queries, heads, _ = q.shape
    if rows == 1 or rows * heads * queries * k.shape[1] <= LOGITS_AT_ONCE:
        return _at_once(q, k, v, mask)

    def row(of: tuple) -> Float[Array, "t n h"]:
        return _at_once(*(array[None] for array in of))[0]

    def one_by_one(*of: Array) -> Float[Array, "b t n h"]:
        return jax.lax.map(row, of)

    attended: Float[Array, "b t n h"] = jax.lax.platform_dependent(
        q, k, v, mask, cpu=one_by_one, default=_at_once
    )
    return attended


def attend_by_library(
    implementation: str,
    q: Float[Array, "b t n h"],
    k: Float[Array, "b s k h"],
    v: Float[Array, "b s k h"],
    mask: Bool[Array, "b t s"] | None,
    lengths: Int[Array, " b"] | None = None,
) -> Float[Array, "b t n h"]:
    """Compute `attend` by a fused kernel, up to rounding and in the dtype of the values.

    Args:
      implementation: One of `simloop.policies.kernels.IMPLEMENTATIONS`.
      q: Queries, scaled.
      k: Keys.
      v: Values.
      mask: Slots that each token sees; None for all.
      lengths: Number of first slots that every valid token of a row sees. Replaces the mask, which kernels would
        read as an array of numbers to add.

    Raises:
      ImportError: If the library is not installed.
      NotImplementedError: If it has no kernel for these shapes on this device.
    """
    if implementation == "tokamax":
        import tokamax

        function, how = tokamax.dot_product_attention, {}
    else:
        function, how = jax.nn.dot_product_attention, {"implementation": implementation}
    options: dict[str, Any] = {**how, "scale": 1.0}
    if lengths is not None:
        options["key_value_seq_lengths"] = lengths
    elif mask is not None:
        options["mask"] = mask[:, None]
    return function(q.astype(v.dtype), k.astype(v.dtype), v, **options)


def _at_once(
    q: Float[Array, "b t n h"],
    k: Float[Array, "b s k h"],
    v: Float[Array, "b s k h"],
    mask: Bool[Array, "b t s"],
) -> Float[Array, "b t n h"]:
    batch, queries, heads, width = q.shape
    kv_heads, slots = k.shape[2], k.shape[1]
    group = heads // kv_heads
    # One row per query and head of a group, so that no product is transposed.
    stacked = jnp.swapaxes(q.reshape(batch, queries, kv_heads, group, width), 1, 2)
    stacked = stacked.reshape(batch, kv_heads, queries * group, width)
    k, v = jnp.swapaxes(k.astype(q.dtype), 1, 2), jnp.swapaxes(v, 1, 2)
    both = ((0, 1), (0, 1))
    logits = jax.lax.dot_general(stacked, k, (((3,), (3,)), both), preferred_element_type=jnp.float32)
    seen = jnp.broadcast_to(mask[:, None, :, None], (batch, kv_heads, queries, group, slots))
    logits = jnp.where(seen.reshape(logits.shape), logits, MASKED_LOGIT)
    if v.dtype == jnp.float32:
        weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
        out = jax.lax.dot_general(weights, v, (((3,), (2,)), both)) / weights.sum(axis=-1, keepdims=True)
    else:
        out = jax.lax.dot_general(jax.nn.softmax(logits, axis=-1).astype(v.dtype), v, (((3,), (2,)), both))
    out = jnp.swapaxes(out.reshape(batch, kv_heads, queries, group, width), 1, 2)
    return out.reshape(batch, queries, heads, width)
