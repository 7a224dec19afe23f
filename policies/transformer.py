"""The transformer of the pi0 family: Gemma experts that share one attention.

Each expert projects its own tokens; keys and values are joined along the sequence and attended
once; each expert finishes its own part. Masks and positions come from outside: the transformer does
not know whether it trains, reads a prompt or decodes.

Axis letters: b batch, t tokens of a stream, q tokens of all streams, s key slots, n heads, k key
heads, h head width, d width, f feed-forward width, l layers, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, TypeVar, overload

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from policies.attention import Rotation, attend, rotate, rotation
from policies.configs import GemmaConfig
from policies.kv_cache import KVCache, write
from policies.norms import AdaptiveRMSNorm, RMSNorm
from policies.projections import Einsum, wider

Streams: TypeAlias = Sequence[Float[Array, "b _t _d"] | None]
"""The tokens of each expert; None for an expert that does not run."""

Conditioning: TypeAlias = Sequence[Float[Array, "b _d"] | None]
"""One vector per expert and row for adaptive norms."""

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


class Transformer(nnx.Module):
    """Experts that share one attention; the first one owns the token table."""

    def __init__(
        self,
        experts: Sequence[GemmaConfig],
        *,
        adaptive_norm: Sequence[bool],
        vocab_size: int,
        rope_dtype: Literal["activation", "float32"],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
        recompute_layers: bool = True,
        unroll_layers: bool = False,
    ):
        self.recompute_layers, self.unroll_layers = recompute_layers, unroll_layers
        self.width, self.head_dim, self.depth = experts[0].width, experts[0].head_dim, experts[0].depth
        self.rope_dtype = rope_dtype
        self.dtype = dtype
        table = nnx.initializers.normal(0.01)(rngs.params(), (vocab_size, self.width), jnp.float32)
        self.token_table = nnx.Param(table)
        self.experts = nnx.List(
            [
                Expert(config, adaptive_norm=adaptive, rngs=rngs)
                for config, adaptive in zip(experts, adaptive_norm, strict=True)
            ]
        )

    def embed(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        """Look tokens up, times sqrt(width), which is rounded to the dtype of the table."""
        rows = jnp.take(self.token_table[...], tokens, axis=0)
        return (rows * jnp.sqrt(self.width).astype(rows.dtype)).astype(self.dtype)

    def logits(self, x: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Scores of all tokens, by the table that embeds them; in the wider of both dtypes."""
        table = self.token_table[...]
        dtype = wider(x.dtype, table.dtype)
        return jnp.einsum("...d,vd->...v", x.astype(dtype), table.astype(dtype))

    @overload
    def __call__(
        self,
        streams: Streams,
        positions: Int[Array, "b q"],
        mask: Bool[Array, "b q s"],
        cache: KVCache,
        conditioning: Conditioning | None = None,
    ) -> tuple[list, KVCache]: ...

    @overload
    def __call__(
        self,
        streams: Streams,
        positions: Int[Array, "b q"],
        mask: Bool[Array, "b q s"],
        cache: None = None,
        conditioning: Conditioning | None = None,
    ) -> tuple[list, None]: ...

    def __call__(
        self,
        streams: Streams,
        positions: Int[Array, "b q"],
        mask: Bool[Array, "b q s"],
        cache: KVCache | None = None,
        conditioning: Conditioning | None = None,
    ) -> tuple[list, KVCache | None]:
        """Run the experts whose stream is not None.

        Args:
          streams: Tokens per expert, joined in this order along the sequence.
          positions: Rotary position of every joined token.
          mask: Which slots each joined token sees: the slots of the cache, into which the new tokens
            are written first; without a cache the joined tokens themselves.
          cache: Keys and values so far; the new ones are written behind them. None forgets.
          conditioning: For experts with adaptive norms.

        Returns:
          The streams after their final norms, and the cache with the new tokens.
        """
        conditioning = conditioning or [None] * len(streams)
        running = [i for i, tokens in enumerate(streams) if tokens is not None]
        split = [nnx.split(self.experts[i].layers) for i in running]
        by = rotation(positions, self.head_dim)
        end = None if cache is None else cache.end

        def layer(tokens: list, weights: tuple) -> tuple[list, tuple | None]:
            states, slots = weights
            blocks = [nnx.merge(graph, state) for (graph, _), state in zip(split, states, strict=True)]
            conditions = [conditioning[i] for i in running]
            return self._layer(blocks, tokens, conditions, by, mask, slots, end)

        if self.recompute_layers:  # In the backward pass; forward it is free.
            layer = jax.checkpoint(layer, prevent_cse=False)
        tokens = [jnp.asarray(streams[i]).astype(self.dtype) for i in running]
        slots = None if cache is None else (cache.k, cache.v)
        weights = ([state for _, state in split], slots)
        tokens, written = jax.lax.scan(layer, tokens, weights, unroll=self.unroll_layers)

        out: list = [None] * len(streams)
        for i, x in zip(running, tokens, strict=True):
            out[i], _ = self.experts[i].final_norm(x, conditioning[i])
        if cache is None or written is None:
            return out, None
        k, v = written
        return out, KVCache(k=k, v=v, end=cache.end + positions.shape[1])

    def _layer(
        self,
        blocks: Sequence[Block],
        streams: Sequence[Float[Array, "b _t _d"]],
        conditions: Sequence[Float[Array, "b _d"] | None],
        by: Rotation,
        mask: Bool[Array, "b q s"],
        slots: tuple[Float[Array, "b s k h"], Float[Array, "b s k h"]] | None,
        end: Int[Array, ""] | None,
    ) -> tuple[list, tuple | None]:
        normed = [b.pre_attention_norm(x, c) for b, x, c in zip(blocks, streams, conditions, strict=True)]
        heads = [b.attention.heads_of(x) for b, (x, _) in zip(blocks, normed, strict=True)]
        q, k, v = (jnp.concatenate(parts, axis=1) for parts in zip(*heads, strict=True))
        q = rotate(q, by)
        if self.rope_dtype == "activation":
            q = q.astype(self.dtype)
        q = q * self.head_dim**-0.5
        k = rotate(k, by).astype(self.dtype)
        if slots is not None:
            k, v = write(slots[0], k, end), write(slots[1], v, end)
        attended = attend(q, k, v, mask)

        out, start = [], 0
        for block, x, (_, gate), condition in zip(blocks, streams, normed, conditions, strict=True):
            part = attended[:, start : start + x.shape[1]]
            start += x.shape[1]
            x = _add_gated(x, block.attention.out(part), gate)
            y, gate = block.pre_mlp_norm(x, condition)
            out.append(_add_gated(x, block.mlp(y), gate))
        return out, None if slots is None else (k, v)


def stacked(make: Callable[[nnx.Rngs], M], depth: int, rngs: nnx.Rngs) -> M:
    """Make `depth` modules alike, each from a key of its own, as one with a leading layer axis."""

    def make_one(key: jax.Array) -> nnx.State:
        return nnx.state(make(nnx.Rngs(key)))

    graph, _ = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    # One after the other: drawing the feed-forward weights of all layers at once takes gigabytes.
    return nnx.merge(graph, jax.lax.map(make_one, jax.random.split(rngs.params(), depth)))


def _add_gated(
    x: Float[Array, "b t d"], y: Float[Array, "b t d"], gate: Float[Array, "b 1 d"] | None
) -> Float[Array, "b t d"]:
    return x + y if gate is None else x + y * gate
