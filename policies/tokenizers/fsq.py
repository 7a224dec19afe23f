"""A learnt action tokenizer: attention into slots, each rounded to a point of a small grid.

    actions [t] → project → encoder: n slots look at t steps → tanh → round to the grid → token
    token → point of the grid → decoder: t steps look at n slots → project → actions [t]

Finite scalar quantization (FSQ) is F. Mentzer et al., arXiv:2309.15505; lookup-free quantization
(LFQ, two points per dimension) is L. Yu et al., arXiv:2310.05737. Kept for parity with the reference implementation.

Axis letters: b batch, t steps of a chunk, a action size, s state size, n tokens, d width, q queries,
k keys, g dimensions of the grid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int32

CodebookKind = Literal["fsq", "lfq", "custom"]

HEAD_WIDTH = 64
LONGEST_WAVELENGTH = 1e4  # Of the sines that positions start from, in units of 2π.

# Points per dimension of the grid, by number of bits of the target size.
_FSQ_POINTS = {
    8: (8, 6, 5),
    10: (8, 5, 5, 5),
    12: (7, 5, 5, 5, 5),
    14: (8, 8, 8, 6, 5),
    16: (8, 8, 8, 5, 5, 5),
}


@dataclass(frozen=True)
class FsqConfig:
    """Sizes of a tokenizer."""

    embed_dim: int
    data_dim: int
    data_horizon: int
    num_tokens: int
    num_layers: int
    target_codebook_size: int
    causal: bool = False
    """Whether slot i attends to the parts of the chunk up to the i-th, and each part to the slots up to its own."""
    blocks_from: Literal["positions", "first_feature"] = "positions"
    """Which keys a query of a causal tokenizer attends to. The reference compares the first feature of query and key
    instead of their positions, and tokenizers trained with it need that."""
    mlp_ratio: float = 2.0
    bound: float | None = None
    """Actions are clipped to ± this value before encoding, but not in the loss."""
    state_dim: int | None = None
    """Length of a state that encoder and decoder attend to; None without one."""
    codebook: CodebookKind = "custom"

    @property
    def points(self) -> tuple[int, ...]:
        """Points per dimension of the grid."""
        return grid_points(self.target_codebook_size, self.codebook)

    @property
    def codebook_size(self) -> int:
        """Number of different tokens."""
        return math.prod(self.points)


def grid_points(target_size: int, kind: CodebookKind) -> tuple[int, ...]:
    """Points per dimension of a grid of about `target_size` points.

    Raises:
      ValueError: If there is no such grid.
    """
    bits = target_size.bit_length() - 1
    if 1 << bits != target_size or (kind != "lfq" and bits not in _FSQ_POINTS):
        sizes = ", ".join(str(1 << b) for b in _FSQ_POINTS)
        raise ValueError(f"Grids of kind {kind!r} have a target size of {sizes}; got {target_size}.")
    if kind == "lfq":
        return (2,) * bits
    if kind == "fsq":
        return _FSQ_POINTS[bits]
    return (1 << bits // 2,) * 2


class Code(NamedTuple):
    """Quantized slots."""

    tokens: Int32[Array, "b n"]
    z: Float32[Array, "b n g"]
    """Before rounding, in (-1, 1)."""


class Losses(NamedTuple):
    """Reconstruction errors."""

    loss: Float32[Array, ""]
    mean_squared: Float32[Array, ""]
    mean_absolute: Float32[Array, ""]


class Codebook(nnx.Module):
    """A low-dimensional grid with projections to it and back."""

    def __init__(self, width: int, points: tuple[int, ...], *, rngs: nnx.Rngs):
        self.points = points
        self.proj_down = nnx.Linear(width, len(points), rngs=rngs)
        self.proj_up = nnx.Linear(len(points), width, rngs=rngs)

    def encode(self, x: Float32[Array, "b n d"]) -> Code:
        """Nearest grid points; the first dimension is the least significant digit of a token."""
        z = jnp.tanh(self.proj_down(x))
        digits = jnp.round((z + 1.0) * self._steps() / 2.0).astype(jnp.int32)
        return Code((digits * self._slots()).sum(axis=-1, dtype=jnp.int32), z)

    def decode(self, tokens: Int32[Array, "b n"]) -> Float32[Array, "b n d"]:
        """Slots of the given tokens."""
        return self.proj_up(self.point_of(tokens))

    def straight_through(self, x: Float32[Array, "b n d"]) -> Float32[Array, "b n d"]:
        """Rounded slots with straight-through gradients."""
        code = self.encode(x)
        return self.proj_up(code.z + jax.lax.stop_gradient(self.point_of(code.tokens) - code.z))

    def point_of(self, tokens: Int32[Array, "b n"]) -> Float32[Array, "b n g"]:
        """Coordinates in [-1, 1]."""
        digits = tokens[..., None] // self._slots() % jnp.asarray(self.points, jnp.int32)[None, None]
        return digits.astype(jnp.float32) / self._steps() * 2.0 - 1.0

    def _steps(self) -> Float32[Array, "1 1 g"]:
        return jnp.asarray(self.points, jnp.float32)[None, None] - 1.0

    def _slots(self) -> Int32[Array, "1 1 g"]:
        return jnp.asarray(np.cumprod((1, *self.points[:-1])), jnp.int32)[None, None]


class CrossAttentionLayer(nnx.Module):
    """Self-attention of the queries, cross-attention to the keys, and a gated MLP."""

    def __init__(self, width: int, mlp_ratio: float, *, rngs: nnx.Rngs):
        heads, hidden = width // HEAD_WIDTH, int(width * mlp_ratio)
        self.self_norm = nnx.LayerNorm(width, rngs=rngs)
        self.self_attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.cross_norm = nnx.LayerNorm(width, rngs=rngs)
        self.cross_attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.mlp_norm = nnx.LayerNorm(width, rngs=rngs)
        self.mlp_in = nnx.Linear(width, hidden, rngs=rngs)
        self.gated = nnx.Linear(hidden, 2 * hidden, rngs=rngs)
        self.mlp_out = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(
        self,
        x: Float32[Array, "b q d"],
        y: Float32[Array, "b k d"],
        self_mask: Bool[np.ndarray, "1 1 q q"] | None,
        cross_mask: Bool[np.ndarray, "1 1 q k"] | Bool[Array, "b 1 q k"] | None,
    ) -> Float32[Array, "b q d"]:
        x = x + self.self_attention(self.self_norm(x), mask=self_mask)
        x = x + self.cross_attention(self.cross_norm(x), y, mask=cross_mask)
        value, gate = jnp.split(self.gated(self.mlp_in(self.mlp_norm(x))), 2, axis=-1)
        return x + self.mlp_out(value * jax.nn.gelu(gate))


class Resampler(nnx.Module):
    """Cross-attention of learnt queries, which changes the length of a sequence."""

    def __init__(self, config: FsqConfig, queries: int, keys: int, *, rngs: nnx.Rngs):
        width = config.embed_dim
        self.causal, self.blocks_from = config.causal, config.blocks_from
        self.state_keys = 0 if config.state_dim is None else 1
        if config.state_dim is not None:
            self.state_proj = nnx.Linear(config.state_dim, width, rngs=rngs)
        self.q_embed = nnx.Param(sinusoidal_positions(queries, width))
        self.y_pos_enc = nnx.Param(sinusoidal_positions(keys + self.state_keys, width))
        self.layers = nnx.List(
            [CrossAttentionLayer(width, config.mlp_ratio, rngs=rngs) for _ in range(config.num_layers)]
        )

    def __call__(
        self, y: Float32[Array, "b k d"], state: Float32[Array, "b s"] | None
    ) -> Float32[Array, "b q d"]:
        if state is not None:
            y = jnp.concatenate([y, self.state_proj(state)[:, None]], axis=1)
        y = y + self.y_pos_enc[...][None]
        queries = self.q_embed.shape[0]
        x = jnp.broadcast_to(self.q_embed[...][None], (y.shape[0], queries, y.shape[2]))
        self_mask = np.tri(queries, dtype=bool)[None, None] if self.causal else None
        for layer in self.layers:
            x = layer(x, y, self_mask, self._cross_mask(x, y))
        return x

    def _cross_mask(self, x: Float32[Array, "b q d"], y: Float32[Array, "b k d"]) -> Any:
        if not self.causal:
            return None
        queries, keys = x.shape[1], y.shape[1]
        if self.blocks_from == "positions":
            sequence = keys - self.state_keys  # Every query attends to the state, which is last.
            mask = block_causal_mask(queries, sequence)
            return np.pad(mask, ((0, 0), (0, self.state_keys)), constant_values=True)[None, None]
        # Block sizes are swapped as well, which has no effect on sequences of equal length.
        query_block, key_block = max(keys // queries, 1), max(queries // keys, 1)
        query, key = jnp.floor(x[..., 0] / query_block), jnp.floor(y[..., 0] / key_block)
        return (query[:, :, None] >= key[:, None, :])[:, None]


class FsqTokenizer(nnx.Module):
    """Encode chunks of normalized actions as a fixed number of tokens, and decode them."""

    def __init__(self, config: FsqConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.proj_in = nnx.Linear(config.data_dim, config.embed_dim, rngs=rngs)
        self.encoder = Resampler(config, config.num_tokens, config.data_horizon, rngs=rngs)
        self.codebook = Codebook(config.embed_dim, config.points, rngs=rngs)
        self.decoder = Resampler(config, config.data_horizon, config.num_tokens, rngs=rngs)
        self.proj_out = nnx.Linear(config.embed_dim, config.data_dim, rngs=rngs)
        self.out_scale = nnx.Param(jnp.ones((), jnp.float32))

    def tokenize(self, actions: Float32[Array, "b t a"], state: Float32[Array, "b s"] | None = None) -> Code:
        """Tokens of chunks; `state` is needed exactly if the config has a `state_dim`."""
        if self.config.bound is not None:
            actions = jnp.clip(actions, -self.config.bound, self.config.bound)
        return self.codebook.encode(self._encode(actions, state))

    def detokenize(
        self, tokens: Int32[Array, "b n"], state: Float32[Array, "b s"] | None = None
    ) -> Float32[Array, "b t a"]:
        """Chunks of the given tokens."""
        return self._decode(self.codebook.decode(tokens), state)

    def loss(self, actions: Float32[Array, "b t a"], state: Float32[Array, "b s"] | None = None) -> Losses:
        """Reconstruction error, with straight-through gradients."""
        slots = self.codebook.straight_through(self._encode(actions, state))
        error = self._decode(slots, state) - actions
        squared, absolute = jnp.mean(jnp.square(error)), jnp.mean(jnp.abs(error))
        return Losses(squared, squared, absolute)

    def _encode(self, actions: Float[Array, "b t a"], state: Float32[Array, "b s"] | None) -> Array:
        self._check_state(state)
        return self.encoder(self.proj_in(actions), state)

    def _decode(self, slots: Float[Array, "b n d"], state: Float32[Array, "b s"] | None) -> Array:
        self._check_state(state)
        return self.proj_out(self.decoder(slots, state)) * self.out_scale[...].reshape(1, 1, 1)

    def _check_state(self, state: Array | None) -> None:
        if (state is None) != (self.config.state_dim is None):
            raise ValueError(
                f"This tokenizer was made for a state of size {self.config.state_dim}; "
                f"got {None if state is None else state.shape}."
            )


def block_causal_mask(queries: int, keys: int) -> Bool[np.ndarray, "{queries} {keys}"]:
    """Causal mask between sequences of which the shorter one stands for blocks of the longer one."""
    query_block, key_block = max(queries // keys, 1), max(keys // queries, 1)
    return np.arange(queries)[:, None] // query_block >= np.arange(keys)[None] // key_block


def sinusoidal_positions(positions: int, width: int) -> Float32[Array, "{positions} {width}"]:
    """Sines, then cosines, of positions at wavelengths in geometric progression."""
    frequency = np.exp(-math.log(LONGEST_WAVELENGTH) * np.arange(0, width, 2) / width)
    angle = np.arange(positions)[:, None] * frequency[None]
    return jnp.asarray(np.concatenate([np.sin(angle), np.cos(angle)], axis=1), jnp.float32)


# From parameter paths in the module to names in published files, applied in this order.
_RENAMES = (
    (r"layers/(\d+)/", r"CrossAttentionLayer_\1/"),
    ("self_norm", "LayerNorm_0"),
    ("self_attention", "MultiHeadDotProductAttention_0"),
    ("cross_norm", "LayerNorm_1"),
    ("cross_attention", "MultiHeadDotProductAttention_1"),
    ("mlp_norm", "LayerNorm_2"),
    ("mlp_in", "Dense_0"),
    ("gated", "GeGLU_0/Dense_0"),
    ("mlp_out", "Dense_1"),
    ("^proj_in", "proj"),
    ("^proj_out", "proj_mean"),
)


def published_name(path: str) -> str:
    """Name of a parameter in published tokenizers.

    >>> published_name("encoder/layers/0/mlp_in/kernel")
    'encoder/CrossAttentionLayer_0/Dense_0/kernel'
    """
    for pattern, replacement in _RENAMES:
        path = re.sub(pattern, replacement, path)
    return path


def load_parameters(module: nnx.Module, flat: Mapping[str, Any]) -> None:
    """Load arrays by published name into a tokenizer or a part of one.

    Raises:
      ValueError: If names are missing or extra, or a shape differs.
    """
    state = nnx.state(module, nnx.Param)
    by_name = {
        published_name("/".join(map(str, path))): variable for path, variable in nnx.to_flat_state(state)
    }
    wrong = sorted(set(by_name) ^ set(flat)) or [n for n in by_name if by_name[n].shape != flat[n].shape]
    if wrong:
        raise ValueError(f"These arrays do not fit the tokenizer: {', '.join(wrong)}. Check its config.")
    for name, variable in by_name.items():
        variable.set_value(jnp.asarray(flat[name], jnp.float32))
    nnx.update(module, state)
