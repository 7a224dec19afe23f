"""The transformer of the pi0 family: Gemma experts that share one attention.

Each expert projects its own tokens; keys and values are joined along the sequence and attended
once; each expert finishes its own part. Masks and positions come from outside: the transformer does
not know whether it trains, reads a prompt or decodes.

Axis letters: b batch, t tokens of a stream, q tokens of all streams, s key slots, n heads, k key
heads, h head width, d width, f feed-forward width, l layers, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, overload

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from simloop.policies.models.attention import (
    Rotation,
    attend,
    attend_by_library,
    attend_in_place,
    rotate,
    rotation,
)
from simloop.policies.models.configs import GemmaConfig
from simloop.policies.models.experts import Block, Expert
from simloop.policies.models.kernels import Attention, Kernels
from simloop.policies.models.kv_cache import KVCache, write
from simloop.policies.models.norms import Modulation
from simloop.policies.models.projections import wider
from simloop.policies.models.pytrees import pytree

Streams: TypeAlias = Sequence[Float[Array, "b _t _d"] | None]
"""The tokens of each expert; None for an expert that does not run."""


@pytree
class Modulations:
    """What the adaptive norms of one expert make of a condition, in every layer."""

    pre_attention: Modulation
    pre_mlp: Modulation
    """Both with a leading layer axis."""
    final: Modulation


Conditioning: TypeAlias = Sequence[Float[Array, "b _d"] | Modulations | None]
"""For adaptive norms: one vector per expert and row, or what the norms made of it before."""


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
        attend_in_place: bool = False,
    ):
        """`attend_in_place` says how to attend where there is a cache; see `attention.attend_in_place`."""
        self.kernels = Kernels()
        """What computes where there is a cache."""
        self.recompute_layers, self.unroll_layers = recompute_layers, unroll_layers
        self.attend_in_place = attend_in_place
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

    def logits(
        self, x: Float[Array, "*b d"], table: Float[Array, "v d"] | None = None
    ) -> Float[Array, "*b v"]:
        """Scores of all tokens, by the table that embeds them; in the wider of both dtypes.

        With some rows of the table, the scores of these.
        """
        table = self.token_table[...] if table is None else table
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
        *,
        keys_only: bool = False,
        lengths: Int[Array, " b"] | None = None,
        prompt: bool = False,
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
        *,
        keys_only: bool = False,
        lengths: Int[Array, " b"] | None = None,
        prompt: bool = False,
    ) -> tuple[list, KVCache | None]:
        """Run the experts whose stream is not None.

        Args:
          streams: Tokens per expert, joined in this order along the sequence.
          positions: Rotary position of every joined token.
          mask: Which slots each joined token sees: the slots of the cache, into which the new tokens
            are written first. A mask as wide as the joined tokens is about these alone, with a cache that
            holds no others yet, or without one.
          cache: Keys and values so far; the new ones are written from its end on. None forgets. One with an
            array per layer unrolls the layers.
          conditioning: For experts with adaptive norms.
          keys_only: Stop at the keys and values of the last layer, for callers that read the cache alone.
          lengths: Where valid tokens of a row see the row's first slots and no others, how many that are.
            The mask says the same; some kernels are faster with lengths.
          prompt: Whether cameras and prompt are read, for which there may be another kernel.

        Returns:
          The streams after their final norms (None with `keys_only`), and the cache with the new tokens.
        """
        conditioning = conditioning or [None] * len(streams)
        running = [i for i, tokens in enumerate(streams) if tokens is not None]
        split = [nnx.split(self.experts[i].layers) for i in running]
        by = rotation(positions, self.head_dim)
        end = None if cache is None else cache.end
        kernel = self.kernels.prompt_attention if prompt else self.kernels.action_attention

        known = [conditioning[i] for i in running]
        known = [(c.pre_attention, c.pre_mlp) if isinstance(c, Modulations) else None for c in known]

        def parts(weights: tuple) -> tuple[list[Block], list[tuple], tuple | None]:
            states, slots, known = weights
            blocks = [nnx.merge(graph, state) for (graph, _), state in zip(split, states, strict=True)]
            conditions = [
                (conditioning[i], conditioning[i]) if both is None else both
                for i, both in zip(running, known, strict=True)
            ]
            return blocks, conditions, slots

        def layer(tokens: list, weights: tuple) -> tuple[list, tuple | None]:
            blocks, conditions, slots = parts(weights)
            return self._layer(blocks, tokens, conditions, by, mask, lengths, slots, end, kernel)

        tokens = [jnp.asarray(streams[i]).astype(self.dtype) for i in running]
        slots = None if cache is None else (cache.k, cache.v)
        weights = ([state for _, state in split], slots, known)
        out: list = [None] * len(streams)
        if keys_only:
            if cache is None:
                raise ValueError("keys_only leaves nothing but the cache, and there is none.")
            tokens, written = self._over_layers(layer, tokens, weights, self.depth - 1)
            blocks, conditions, last = parts(_of_layer(weights, self.depth - 1))
            assert last is not None
            assert written is not None
            new = self._keys_and_values(blocks, tokens, conditions, by)
            written = tuple(
                _joined(before, write(slots, part, end))
                for before, slots, part in zip(written, last, new, strict=True)
            )
        else:
            tokens, written = self._over_layers(layer, tokens, weights, self.depth)
            for i, x in zip(running, tokens, strict=True):
                condition = conditioning[i]
                condition = condition.final if isinstance(condition, Modulations) else condition
                out[i], _ = self.experts[i].final_norm(x, condition)
        if cache is None or written is None:
            return out, None
        k, v = written
        return out, KVCache(k=k, v=v, end=cache.end + positions.shape[1])

    def modulations(self, expert: int, condition: Float[Array, "b d"]) -> Modulations:
        """What the adaptive norms of an expert make of a condition, to be passed on in its place."""
        graph, states = nnx.split(self.experts[expert].layers)

        def of_layer(state: nnx.State) -> tuple[Modulation, Modulation]:
            block = nnx.merge(graph, state)
            return (
                block.pre_attention_norm.modulated(condition, self.dtype),
                block.pre_mlp_norm.modulated(condition, self.dtype),
            )

        final = self.experts[expert].final_norm.modulated(condition, self.dtype)
        pre_attention, pre_mlp = jax.lax.map(of_layer, states)
        return Modulations(pre_attention, pre_mlp, final)

    def _over_layers(
        self,
        layer: Callable[[list, tuple], tuple[list, tuple | None]],
        tokens: list,
        weights: tuple,
        count: int,
    ) -> tuple[list, tuple | None]:
        """Run the first `count` layers; the cache that they wrote has the form of the one in `weights`."""
        if self.recompute_layers:  # In the backward pass; forward it is free.
            layer = jax.checkpoint(layer, prevent_cse=False)
        _, slots, _ = weights
        if slots is not None and isinstance(slots[0], tuple):
            written: list[tuple] = []
            for i in range(count):
                tokens, new = layer(tokens, _of_layer(weights, i))
                assert new is not None
                written.append(new)
            return tokens, (tuple(k for k, _ in written), tuple(v for _, v in written))
        if count == self.depth:
            return jax.lax.scan(layer, tokens, weights, unroll=self.unroll_layers)
        if self.unroll_layers:
            first = jax.tree.map(lambda leaf: leaf[:count], weights)
            return jax.lax.scan(layer, tokens, first, unroll=True)

        # A loop over some of the layers would begin by copying their weights, so it looks them up.
        def at(tokens: list, i: Int[Array, ""]) -> tuple[list, tuple | None]:
            return layer(
                tokens, jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, 0, False), weights)
            )

        return jax.lax.scan(at, tokens, jnp.arange(count, dtype=jnp.int32))

    def _keys_and_values(
        self,
        blocks: Sequence[Block],
        streams: Sequence[Float[Array, "b _t _d"]],
        conditions: Sequence[tuple],
        by: Rotation,
    ) -> tuple[Float[Array, "b q k h"], Float[Array, "b q k h"]]:
        """What one layer puts into the cache."""
        parts = [
            block.attention.keys_and_values_of(block.pre_attention_norm(x, condition)[0])
            for block, x, (condition, _) in zip(blocks, streams, conditions, strict=True)
        ]
        k, v = (jnp.concatenate(joined, axis=1) for joined in zip(*parts, strict=True))
        return rotate(k, by).astype(self.dtype), v

    def _layer(
        self,
        blocks: Sequence[Block],
        streams: Sequence[Float[Array, "b _t _d"]],
        conditions: Sequence[tuple],
        by: Rotation,
        mask: Bool[Array, "b q s"],
        lengths: Int[Array, " b"] | None,
        slots: tuple[Float[Array, "b _s k h"], Float[Array, "b _s k h"]] | None,
        end: Int[Array, ""] | None,
        kernel: Attention,
    ) -> tuple[list, tuple | None]:
        normed = [
            b.pre_attention_norm(x, c) for b, x, (c, _) in zip(blocks, streams, conditions, strict=True)
        ]
        heads = [b.attention.heads_of(x) for b, (x, _) in zip(blocks, normed, strict=True)]
        q, k, v = (jnp.concatenate(parts, axis=1) for parts in zip(*heads, strict=True))
        q = rotate(q, by)
        if self.rope_dtype == "activation":
            q = q.astype(self.dtype)
        q = q * self.head_dim**-0.5
        k = rotate(k, by).astype(self.dtype)
        written = None
        if slots is not None:
            written = write(slots[0], k, end), write(slots[1], v, end)
            if mask.shape[-1] != k.shape[1]:
                k, v = written
        attended = self._attend(q, k, v, mask, lengths, None if slots is None else kernel)

        out, start = [], 0
        for block, x, (_, gate), (_, condition) in zip(blocks, streams, normed, conditions, strict=True):
            part = attended[:, start : start + x.shape[1]]
            start += x.shape[1]
            x = _add_gated(x, block.attention.out(part), gate)
            y, gate = block.pre_mlp_norm(x, condition)
            out.append(_add_gated(x, block.mlp(y), gate))
        return out, written

    def _attend(
        self,
        q: Float[Array, "b q n h"],
        k: Float[Array, "b s k h"],
        v: Float[Array, "b s k h"],
        mask: Bool[Array, "b q s"],
        lengths: Int[Array, " b"] | None,
        kernel: Attention | None,
    ) -> Float[Array, "b q n h"]:
        if kernel is None:  # Without a cache, as in training.
            return attend(q, k, v, mask)
        if kernel != "xla":
            return attend_by_library(kernel, q, k, v, mask, lengths)
        return (attend_in_place if self.attend_in_place else attend)(q, k, v, mask)


def _of_layer(weights: tuple, i: int) -> tuple:
    """One layer's part of what `_over_layers` takes, from stacks of weights or tuples of them."""
    states, slots, known = weights

    def at(leaf: Array | tuple) -> Array:
        return leaf[i] if isinstance(leaf, tuple) else jax.lax.index_in_dim(leaf, i, 0, keepdims=False)

    states = [jax.tree.map(at, state, is_leaf=lambda leaf: isinstance(leaf, tuple)) for state in states]
    known = [jax.tree.map(at, one) for one in known]
    return states, None if slots is None else (slots[0][i], slots[1][i]), known


def _joined(layers: Array | tuple, last: Float[Array, "b s k h"]) -> Array | tuple:
    """The slots of several layers and of the one behind them."""
    return (*layers, last) if isinstance(layers, tuple) else jnp.concatenate([layers, last[None]])


def _add_gated(
    x: Float[Array, "b t d"], y: Float[Array, "b t d"], gate: Float[Array, "_b 1 d"] | None
) -> Float[Array, "b t d"]:
    return x + y if gate is None else x + y * gate
