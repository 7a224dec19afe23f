"""Norms of the transformers: RMS norm, plain and adaptive, and layer norm.

Statistics are float32 for all inputs. Axis letters: b batch, t tokens, d width, c condition, l layers, e three times
the width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from simloop.policies.models.projections import Linear
from simloop.policies.models.pytrees import pytree

EPSILON = 1e-6


class RMSNorm(nnx.Module):
    """y = x / rms(x) · (1 + scale)."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.scale = nnx.Param(jnp.zeros((width,), jnp.float32))

    def __call__(
        self, x: Float[Array, "b t d"], condition: Float[Array, "b _t c"] | None = None
    ) -> tuple[Float[Array, "b t d"], None]:
        """Normalize; returns no gate and ignores the condition.

        1 + scale is rounded to the dtype of the parameter, as in the published models.
        """
        factor = (1.0 + self.scale[...]).astype(jnp.float32)
        return (_unit_rms(x) * factor[None, None]).astype(x.dtype), None


@pytree
class Modulation:
    """Precomputed output of an adaptive norm's modulation for a condition: scale, shift, gate."""

    values: Float[Array, "*l _b _t e"]
    """Side by side; the axes of rows and tokens have length 1 where all have the same condition."""


class AdaptiveRMSNorm(nnx.Module):
    """RMS norm whose scale, shift and gate are linear in a condition (adaLN of arXiv:2212.09748).

    With its initial zero weights, the gate closes the sub-layer after it.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        zeros = nnx.initializers.zeros_init()
        self.modulation = Linear(width, 3 * width, rngs=rngs, kernel_init=zeros)

    def __call__(
        self, x: Float[Array, "b t d"], condition: Float[Array, "_b _t d"] | Modulation
    ) -> tuple[Float[Array, "b t d"], Float[Array, "_b _t d"]]:
        """Normalize and return the gate for the residual; the modulation has the dtype of `x`."""
        known = condition if isinstance(condition, Modulation) else self.modulated(condition, x.dtype)
        scale, shift, gate = jnp.split(known.values, 3, axis=-1)
        factor, shift = (1.0 + scale).astype(jnp.float32), shift.astype(jnp.float32)
        return (_unit_rms(x) * factor + shift).astype(x.dtype), gate

    def modulated(self, condition: Float[Array, "_b _t d"], dtype: DTypeLike) -> Modulation:
        """Precompute the modulation for a condition in `dtype`."""
        return Modulation(self.modulation(condition, dtype=dtype))


class LayerNorm(nnx.Module):
    """Layer norm with scale and bias, computed in float32."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.scale = nnx.Param(jnp.ones((width,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((width,), jnp.float32))

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Normalize; the result has the dtype of `x`."""
        wide = x.astype(jnp.float32)
        mean = wide.mean(axis=-1, keepdims=True)
        # E[x²] − E[x]² is what the published weights were trained with; it can round below zero.
        variance = jnp.maximum(jnp.square(wide).mean(axis=-1, keepdims=True) - jnp.square(mean), 0.0)
        factor = jax.lax.rsqrt(variance + EPSILON) * self.scale[...].astype(jnp.float32)[None, None]
        return ((wide - mean) * factor + self.bias[...].astype(jnp.float32)[None, None]).astype(x.dtype)


def _unit_rms(x: Float[Array, "b t d"]) -> Float32[Array, "b t d"]:
    wide = x.astype(jnp.float32)
    return wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + EPSILON)
