"""The weights of one expert of the transformer: projections, feed-forward part, norms, layer upon layer.

Axis letters: b batch, t tokens, n heads, k key heads, h head width, c parts of one tensor, d width, f
feed-forward width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
from flax import nnx
from jaxtyping import Array, Float

from policies.configs import GemmaConfig
from policies.norms import AdaptiveRMSNorm, RMSNorm
from policies.projections import Einsum

M = TypeVar("M", bound=nnx.Module)
lecun_normal = nnx.initializers.lecun_normal


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

    def heads_of(
        self, x: Float[Array, "b t d"]
    ) -> tuple[Float[Array, "b t n h"], Float[Array, "b t k h"], Float[Array, "b t k h"]]:
        """Queries, keys and values."""
        if self.fused:
            q, k, v = self.qkv(x)
            return q, k, v
        k, v = self.kv(x)
        return self.q(x), k, v

    def keys_and_values_of(
        self, x: Float[Array, "b t d"]
    ) -> tuple[Float[Array, "b t k h"], Float[Array, "b t k h"]]:
        """Keys and values; queries cost something only where one tensor makes all three."""
        if self.fused:
            _, k, v = self.qkv(x)
        else:
            k, v = self.kv(x)
        return k, v


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

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Apply to every token."""
        gate, up = self.gating(x)
        return self.linear(jax.nn.gelu(gate, approximate=True) * up)


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


def stacked(make: Callable[[nnx.Rngs], M], depth: int, rngs: nnx.Rngs) -> M:
    """Make `depth` modules alike, each from a key of its own, as one with a leading layer axis."""

    def make_one(key: jax.Array) -> nnx.State:
        return nnx.state(make(nnx.Rngs(key)))

    graph, _ = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    # One after the other: drawing the feed-forward weights of all layers at once takes gigabytes.
    return nnx.merge(graph, jax.lax.map(make_one, jax.random.split(rngs.params(), depth)))
