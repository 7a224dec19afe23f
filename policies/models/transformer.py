"""Transformer of the pi0 family: Gemma experts that share one attention.

Each expert projects its own tokens; keys and values are joined along the sequence and attended to
once; each expert processes its own part. Masks and positions are arguments: the transformer does
not know whether it trains, reads a prompt or decodes.

Axis letters: b batch, t tokens of a stream, q tokens of all streams, s key slots, n heads, k key
heads, h head width, d width, f feed-forward width, l layers, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, overload

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from simloop.policies.kernels import Attention, GatedProduct
from simloop.policies.models.attention import (
    Rotation,
    attend,
    attend_by_library,
    attend_in_place,
    attend_keeping_weights,
    rotate,
    rotation,
)
from simloop.policies.models.configs import GemmaConfig
from simloop.policies.models.experts import Block, Expert
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.kv_cache import KVCache, write
from simloop.policies.models.norms import Modulation
from simloop.policies.models.projections import wider
from simloop.policies.models.pytrees import pytree

Streams: TypeAlias = Sequence[Float[Array, "b _t _d"] | None]
"""Tokens of each expert; None for an expert that does not run."""


@pytree
class Modulations:
    """Modulations of all adaptive norms of one expert under one condition."""

    pre_attention: Modulation
    pre_mlp: Modulation
    """Both with a leading layer axis."""
    final: Modulation


Conditioning: TypeAlias = Sequence[Float[Array, "b _t _d"] | Modulations | None]
"""Conditions of the adaptive norms of each expert: one vector per row or per token, or precomputed modulations."""


class _Layers(NamedTuple):
    """Arrays of the layers: a leading layer axis or a tuple per leaf; or those of one layer."""

    states: list[nnx.State]
    """Parameters of each running expert."""
    modulations: list[tuple[Modulation, Modulation] | None]
    """Precomputed modulations of both norms of each running expert."""
    slots: Any
    """Keys and values of the cache, a tuple; None without a cache."""


@dataclass(frozen=True)
class _Pass:
    """Inputs of one pass that all layers share."""

    rotation: Rotation
    mask: Array
    lengths: Array | None
    end: Array | None
    """First slot of the new tokens; None without a cache."""
    over_cache: bool
    """Whether tokens attend to the slots of the cache, or to the new tokens alone."""
    kernel: Attention | None
    """Kernel of attention with a cache; None without one."""


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
        plan: InferencePlan = PLAIN,
    ):
        self.plan = plan
        self.recompute_layers = recompute_layers
        self.width, self.head_dim, self.depth = experts[0].width, experts[0].head_dim, experts[0].depth
        self.rope_dtype = rope_dtype
        self.dtype = dtype
        table = nnx.initializers.normal(0.01)(rngs.params(), (vocab_size, self.width), jnp.float32)
        self.token_table = nnx.Param(table)
        # Kernels of gated products pay on prompts, which the first expert reads.
        kernels: list[GatedProduct] = [plan.kernels.gated_product]
        kernels += ["xla"] * (len(experts) - 1)
        self.experts = nnx.List(
            [
                Expert(config, adaptive_norm=adaptive, rngs=rngs, plan=plan, kernel=kernel)
                for config, adaptive, kernel in zip(experts, adaptive_norm, kernels, strict=True)
            ]
        )

    def embed(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        """Look tokens up and multiply by sqrt(width), which is rounded to the dtype of the table."""
        rows = jnp.take(self.token_table[...], tokens, axis=0)
        return (rows * jnp.sqrt(self.width).astype(rows.dtype)).astype(self.dtype)

    def logits(
        self, x: Float[Array, "*b d"], table: Float[Array, "v d"] | None = None
    ) -> Float[Array, "*b v"]:
        """Score tokens by the rows of the embedding table, in the wider of both dtypes.

        Args:
          x: Outputs of the first expert.
          table: Rows of the tokens to score; None for all tokens.
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
        attend_to: Literal["cache", "new_tokens"] = "cache",
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
        attend_to: Literal["cache", "new_tokens"] = "cache",
        keys_only: bool = False,
        lengths: Int[Array, " b"] | None = None,
        prompt: bool = False,
    ) -> tuple[list, KVCache | None]:
        """Run the experts whose stream is not None.

        Args:
          streams: Tokens per expert, joined in this order along the sequence.
          positions: Rotary position of every joined token.
          mask: Which slots each joined token sees: slots of the cache, into which the new tokens are written
            first, or the new tokens themselves, as `attend_to` says; the new tokens without a cache.
          cache: Keys and values so far; the new ones are written from its end on. A cache with an
            array per layer unrolls the layers.
          conditioning: Conditions of adaptive norms.
          attend_to: With a cache: `new_tokens` if it holds no others yet.
          keys_only: Stop at the keys and values of the last layer, for callers that read the cache alone.
          lengths: Number of valid first slots of each row, if its valid tokens see these and no others. The
            mask must agree; some kernels are faster with lengths.
          prompt: Whether cameras and prompt are read, which may have another kernel.

        Returns:
          The streams after their final norms (None with `keys_only`), and the cache with the new tokens.

        Raises:
          ValueError: If the mask is not as wide as what is attended to, or `keys_only` does not fit cache or plan.
        """
        if keys_only and (cache is None or self.plan.keep_attention):
            raise ValueError(
                "keys_only needs a cache, and a plan that does not keep the attention of all layers."
            )
        over_cache = cache is not None and attend_to == "cache"
        seen = cache.slots if cache is not None and over_cache else positions.shape[1]
        if mask.shape[-1] != seen:
            raise ValueError(f"The mask must be about {seen} slots; got {mask.shape[-1]}.")
        running = [i for i, tokens in enumerate(streams) if tokens is not None]
        conditions = [None if conditioning is None else conditioning[i] for i in running]
        kernels = self.plan.kernels
        kernel = kernels.prompt_attention if prompt else kernels.action_attention
        shared = _Pass(
            rotation(positions, self.head_dim),
            mask,
            lengths,
            None if cache is None else cache.end,
            over_cache,
            None if cache is None else kernel,
        )
        graphs, states = zip(*(nnx.split(self.experts[i].layers) for i in running), strict=True)
        layers = _Layers(
            list(states),
            [(c.pre_attention, c.pre_mlp) if isinstance(c, Modulations) else None for c in conditions],
            None if cache is None else (cache.k, cache.v),
        )

        def layer(tokens: list, own: _Layers) -> tuple[list, tuple | None]:
            return self._layer(_blocks(graphs, own, conditions), tokens, shared, own.slots)

        tokens = [jnp.asarray(streams[i]).astype(self.dtype) for i in running]
        out: list = [None] * len(streams)
        tokens, written = self._over_layers(layer, tokens, layers, self.depth - keys_only)
        if keys_only:
            last = _of_layer(layers, self.depth - 1)
            new = self._keys_and_values(_blocks(graphs, last, conditions), tokens, shared)
            written = _appended(written, self._write(last.slots, new, shared))
        else:
            for i, x, condition in zip(running, tokens, conditions, strict=True):
                final = condition.final if isinstance(condition, Modulations) else condition
                out[i], _ = self.experts[i].final_norm(x, final)
        if cache is None or written is None:
            return out, None
        k, v, *attention = written
        return out, KVCache(k, v, cache.end + positions.shape[1], *attention)

    def modulations(self, expert: int, condition: Float[Array, "b _t d"]) -> Modulations:
        """Precompute the modulations of all adaptive norms of an expert, to be passed in place of the condition."""
        graph, states = nnx.split(self.experts[expert].layers)

        def of_layer(state: nnx.State) -> tuple[Modulation, Modulation]:
            block = nnx.merge(graph, state)
            return (
                block.pre_attention_norm.modulated(condition, self.dtype),
                block.pre_mlp_norm.modulated(condition, self.dtype),
            )

        # The map needs stacks; XLA drops the weights that no modulation reads.
        states = jax.tree.map(
            lambda leaf: jnp.stack(leaf) if isinstance(leaf, tuple) else leaf,
            states,
            is_leaf=lambda leaf: isinstance(leaf, tuple),
        )
        final = self.experts[expert].final_norm.modulated(condition, self.dtype)
        pre_attention, pre_mlp = jax.lax.map(of_layer, states)
        return Modulations(pre_attention, pre_mlp, final)

    def _over_layers(
        self,
        layer: Callable[[list, _Layers], tuple[list, tuple | None]],
        tokens: list,
        layers: _Layers,
        count: int,
    ) -> tuple[list, tuple | None]:
        """Run the first `count` layers; returns tokens, and what they wrote in the form of `layers.slots`.

        They write keys, values and, if the plan keeps them, weights of attention.
        """
        if self.recompute_layers:  # In the backward pass; forward it is free.
            layer = jax.checkpoint(layer, prevent_cse=False)
        if layers.slots is not None and isinstance(layers.slots[0], tuple):
            written: list[tuple] = []
            for i in range(count):
                tokens, new = layer(tokens, _of_layer(layers, i))
                assert new is not None
                written.append(new)
            return tokens, tuple(zip(*written, strict=True)) or ((), ())
        if count == self.depth:
            return jax.lax.scan(layer, tokens, layers, unroll=bool(self.plan.unroll_layers))

        # A scan over some of the layers would copy their weights, so the loop looks them up.
        def at(tokens: list, i: Int[Array, ""]) -> tuple[list, tuple | None]:
            return layer(
                tokens, jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, 0, False), layers)
            )

        return jax.lax.scan(at, tokens, jnp.arange(count, dtype=jnp.int32))

    def _keys_and_values(
        self, blocks: Sequence[_Running], streams: Sequence[Float[Array, "b _t _d"]], shared: _Pass
    ) -> tuple[Float[Array, "b q k h"], Float[Array, "b q k h"]]:
        """Compute what one layer writes into the cache."""
        parts = [
            block.attention.keys_and_values_of(block.pre_attention_norm(x, condition)[0])
            for (block, condition, _), x in zip(blocks, streams, strict=True)
        ]
        k, v = (jnp.concatenate(joined, axis=1) for joined in zip(*parts, strict=True))
        return rotate(k, shared.rotation).astype(self.dtype), v

    def _layer(
        self,
        blocks: Sequence[_Running],
        streams: Sequence[Float[Array, "b _t _d"]],
        shared: _Pass,
        slots: tuple[Float[Array, "b _s k h"], Float[Array, "b _s k h"]] | None,
    ) -> tuple[list, tuple | None]:
        normed = [
            b.block.pre_attention_norm(x, b.pre_attention) for b, x in zip(blocks, streams, strict=True)
        ]
        heads = [b.block.attention.heads_of(x) for b, (x, _) in zip(blocks, normed, strict=True)]
        q, k, v = (jnp.concatenate(parts, axis=1) for parts in zip(*heads, strict=True))
        q = rotate(q, shared.rotation)
        if self.rope_dtype == "activation":
            q = q.astype(self.dtype)
        q = q * self.head_dim**-0.5
        k = rotate(k, shared.rotation).astype(self.dtype)
        written = None if slots is None else self._write(slots, (k, v), shared)
        if shared.over_cache:
            assert written is not None
            k, v = written
        if written is not None and self.plan.keep_attention:
            attended, weights = attend_keeping_weights(q, k, v, shared.mask)
            written = (*written, weights)
        else:
            attended = self._attend(q, k, v, shared)

        out, start = [], 0
        for (block, _, condition), x, (_, gate) in zip(blocks, streams, normed, strict=True):
            part = attended[:, start : start + x.shape[1]]
            start += x.shape[1]
            x = _add_gated(x, block.attention.out(part), gate)
            y, gate = block.pre_mlp_norm(x, condition)
            out.append(_add_gated(x, block.mlp(y), gate))
        return out, written

    def _write(self, slots: tuple, new: tuple, shared: _Pass) -> tuple:
        return tuple(write(before, part, shared.end) for before, part in zip(slots, new, strict=True))

    def _attend(
        self,
        q: Float[Array, "b q n h"],
        k: Float[Array, "b s k h"],
        v: Float[Array, "b s k h"],
        shared: _Pass,
    ) -> Float[Array, "b q n h"]:
        if shared.kernel is None:  # Without a cache, as in training.
            return attend(q, k, v, shared.mask)
        if shared.kernel != "xla":
            return attend_by_library(shared.kernel, q, k, v, shared.mask, shared.lengths)
        return (attend_in_place if self.plan.attention_in_place else attend)(q, k, v, shared.mask)


class _Running(NamedTuple):
    """One expert in one layer, with the conditions of its norms."""

    block: Block
    pre_attention: Array | Modulation | None
    pre_mlp: Array | Modulation | None


def _blocks(graphs: Sequence, own: _Layers, conditions: Sequence) -> list[_Running]:
    """Build the blocks of one layer."""
    return [
        _Running(nnx.merge(graph, state), *((condition, condition) if known is None else known))
        for graph, state, known, condition in zip(
            graphs, own.states, own.modulations, conditions, strict=True
        )
    ]


def _of_layer(layers: _Layers, i: int) -> _Layers:
    """Return the arrays of one layer."""

    def at(leaf: Array | tuple) -> Array:
        return leaf[i] if isinstance(leaf, tuple) else jax.lax.index_in_dim(leaf, i, 0, keepdims=False)

    states = [
        jax.tree.map(at, state, is_leaf=lambda leaf: isinstance(leaf, tuple)) for state in layers.states
    ]
    modulations = [jax.tree.map(at, known) for known in layers.modulations]
    slots = None if layers.slots is None else (layers.slots[0][i], layers.slots[1][i])
    return _Layers(states, modulations, slots)


def _appended(layers: Any, last: tuple) -> tuple:
    """Append the slots of the last layer to those of the layers before it."""
    return tuple(
        (*before, new) if isinstance(before, tuple) else jnp.concatenate([before, new[None]])
        for before, new in zip(layers, last, strict=True)
    )


def _add_gated(
    x: Float[Array, "b t d"], y: Float[Array, "b t d"], gate: Float[Array, "_b _t d"] | None
) -> Float[Array, "b t d"]:
    return x + y if gate is None else x + y * gate
