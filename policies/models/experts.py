"""The weights of one expert of the transformer: projections, feed-forward part, norms, layer upon layer.

Axis letters: b batch, t tokens, n heads, k key heads, h head width, c parts of one tensor, d width, f
feed-forward width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from simloop.policies.models.configs import GemmaConfig
from simloop.policies.models.kernels import GatedProduct
from simloop.policies.models.norms import AdaptiveRMSNorm, RMSNorm
from simloop.policies.models.projections import Einsum, Product, product
from simloop.policies.models.sharding import split_like

M = TypeVar("M", bound=nnx.Module)
lecun_normal = nnx.initializers.lecun_normal

ROWS_FOR_FUSED_PRODUCTS = 256
"""Tokens of a batch from which a library's fused product is called: it was chosen by its time on prompts."""


class AttentionProjections(nnx.Module):
    """From tokens to queries, keys and values, and back, for one expert in one layer."""

    def __init__(self, config: GemmaConfig, *, rngs: nnx.Rngs):
        heads, kv_heads, width, head = config.num_heads, config.num_kv_heads, config.width, config.head_dim
        lora_rank = config.lora.rank if config.lora else None
        lora_scaling = config.lora.scaling if config.lora else 1.0

        def einsum(equation: str, shape: tuple[int, ...], **init_axes: object) -> Einsum:
            return Einsum(
                equation,
                shape,
                kernel_init=lecun_normal(**init_axes),
                rngs=rngs,
                lora_rank=lora_rank,
                lora_scaling=lora_scaling,
            )

        self.fused = heads == kv_heads
        """With a key head to every query head, the published weights hold all three in one tensor."""
        if self.fused:
            self.qkv = einsum("btd,cndh->cbtnh", (3, heads, width, head), batch_axis=(0, 1))
        else:
            self.q = einsum("btd,ndh->btnh", (heads, width, head), batch_axis=(0,))
            self.kv = einsum("btd,ckdh->cbtkh", (2, kv_heads, width, head), batch_axis=(0, 1))
        self.out = einsum("btnh,nhd->btd", (heads, head, width), in_axis=(-3, -2), out_axis=-1)
        self.sizes = (heads, kv_heads, head)

    def join(self) -> None:
        """Put the weights side by side in one matrix, in the order in which products read them.

        The published tensors have the summed axis in the middle, and are turned around at every use. Not
        for weights with adapters.
        """
        if hasattr(self, "joined"):
            return
        if self.fused:
            parts = [self.qkv.w[...]]
            matrix = _summed_first(parts[0], axes=2)
            del self.qkv
        else:
            parts = [self.q.w[...], self.kv.w[...]]
            matrix = jnp.concatenate(
                [_summed_first(part, axes=axes) for axes, part in enumerate(parts, start=1)], axis=-1
            )
            del self.q, self.kv
        self.joined = nnx.Param(split_like(matrix, parts))

    def heads_of(
        self, x: Float[Array, "b t d"]
    ) -> tuple[Float[Array, "b t n h"], Float[Array, "b t k h"], Float[Array, "b t k h"]]:
        """Queries, keys and values."""
        if hasattr(self, "joined"):
            heads, _, head = self.sizes
            y = product(x, self.joined)
            return y[..., : heads * head].reshape(*x.shape[:2], heads, head), *self._split(
                y[..., heads * head :]
            )
        if self.fused:
            q, k, v = self.qkv(x)
            return q, k, v
        k, v = self.kv(x)
        return self.q(x), k, v

    def keys_and_values_of(
        self, x: Float[Array, "b t d"]
    ) -> tuple[Float[Array, "b t k h"], Float[Array, "b t k h"]]:
        """Keys and values; queries cost something only where the published tensor makes all three."""
        if hasattr(self, "joined"):
            heads, _, head = self.sizes
            return self._split(product(x, self.joined, heads * head))
        if self.fused:
            _, k, v = self.qkv(x)
        else:
            k, v = self.kv(x)
        return k, v

    def _split(self, y: Float[Array, "b t e"]) -> tuple[Float[Array, "b t k h"], Float[Array, "b t k h"]]:
        """Keys and values, which lie side by side."""
        _, kv_heads, head = self.sizes
        k, v = jnp.split(y, 2, axis=-1)
        shape = (*y.shape[:2], kv_heads, head)
        return k.reshape(shape), v.reshape(shape)


class GatedMlp(nnx.Module):
    """(gelu(x·W0) · (x·W1)) · W2 with the tanh form of GELU."""

    def __init__(self, config: GemmaConfig, *, rngs: nnx.Rngs):
        lora_rank = config.lora.rank if config.lora else None
        width, hidden = config.width, config.mlp_dim
        self.gating = Einsum(
            "btd,cdf->cbtf",
            (2, width, hidden),
            kernel_init=lecun_normal(batch_axis=(0,)),
            rngs=rngs,
            lora_rank=lora_rank,
        )
        self.linear = Einsum(
            "btf,fd->btd", (hidden, width), kernel_init=lecun_normal(), rngs=rngs, lora_rank=lora_rank
        )
        self.kernel: GatedProduct = "xla"

    def join(self) -> None:
        """Put the first two weights side by side; see `AttentionProjections.join`."""
        if hasattr(self, "joined"):
            return
        part = self.gating.w[...]
        self.joined = nnx.Param(split_like(_summed_first(part, axes=1), [part]))
        del self.gating

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Apply to every token."""
        if not hasattr(self, "joined"):
            gate, up = self.gating(x)
            return self.linear(jax.nn.gelu(gate, approximate=True) * up)
        many = x.shape[0] * x.shape[1] >= ROWS_FOR_FUSED_PRODUCTS
        if self.kernel != "xla" and many and not isinstance(self.joined, Product):
            return self.linear(gated_product_by_library(x, self.joined[...].astype(x.dtype)))
        return self.linear(gated_product(product(x, self.joined)))


def gated_product(both: Float[Array, "*b _e"]) -> Float[Array, "*b _f"]:
    """gelu(x·W0) · (x·W1) of both products side by side."""
    gate, up = jnp.split(both, 2, axis=-1)
    return jax.nn.gelu(gate, approximate=True) * up


def gated_product_by_library(x: Float[Array, "*b d"], joined: Float[Array, "d _e"]) -> Float[Array, "*b _f"]:
    """`gated_product` with the products before it, of weights side by side, in one fused kernel.

    Raises:
      ImportError: If the library is not installed.
      NotImplementedError: If it has no kernel for these shapes on this device.
    """
    import tokamax

    weights = joined.reshape(joined.shape[0], 2, -1)
    return tokamax.gated_linear_unit(x, weights, activation=jax.nn.gelu)


class Block(nnx.Module):
    """The weights of one expert in one layer."""

    def __init__(self, config: GemmaConfig, *, adaptive_norm: bool, rngs: nnx.Rngs):
        norm = AdaptiveRMSNorm if adaptive_norm else RMSNorm
        self.pre_attention_norm = norm(config.width, rngs=rngs)
        self.attention = AttentionProjections(config, rngs=rngs)
        self.pre_mlp_norm = norm(config.width, rngs=rngs)
        self.mlp = GatedMlp(config, rngs=rngs)


class Expert(nnx.Module):
    """One stream's weights: blocks stacked along a leading layer axis, and the final norm."""

    def __init__(self, config: GemmaConfig, *, adaptive_norm: bool, rngs: nnx.Rngs):
        self.layers = stacked(
            lambda rngs: Block(config, adaptive_norm=adaptive_norm, rngs=rngs), config.depth, rngs
        )
        norm = AdaptiveRMSNorm if adaptive_norm else RMSNorm
        self.final_norm = norm(config.width, rngs=rngs)


@functools.partial(jax.jit, static_argnames="axes")  # As one step, which holds no third copy of the weights.
def _summed_first(w: Float[Array, "..."], *, axes: int) -> Float[Array, "*l d e"]:
    """A tensor [.., one or two axes, d, e] as matrices [.., d, all others]."""
    summed = w.ndim - 2
    w = jnp.moveaxis(w, summed, summed - axes)
    return w.reshape(*w.shape[: summed - axes + 1], -1)


def stacked(make: Callable[[nnx.Rngs], M], depth: int, rngs: nnx.Rngs) -> M:
    """Make `depth` modules alike, each from a key of its own, as one with a leading layer axis."""

    def make_one(key: jax.Array) -> nnx.State:
        return nnx.state(make(nnx.Rngs(key)))

    graph, _ = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    # One after the other: drawing the feed-forward weights of all layers at once takes gigabytes.
    return nnx.merge(graph, jax.lax.map(make_one, jax.random.split(rngs.params(), depth)))
