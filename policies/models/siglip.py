"""The SigLIP image encoder (arXiv:2303.15343), with the options of the published parameter trees.

Axis letters: n images, h and w height and width in patches, t tokens, d width, e encoder heads, o
output width.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from simloop.policies.models.attention import attend_by_library
from simloop.policies.models.configs import ImageEncoderConfig
from simloop.policies.models.experts import stacked
from simloop.policies.models.kernels import Attention
from simloop.policies.models.norms import LayerNorm
from simloop.policies.models.projections import (
    Initializer,
    Linear,
    Product,
    add_bias,
    aligned_length,
    flattened,
    product,
)
from simloop.policies.models.sharding import split_like

xavier_uniform = nnx.initializers.xavier_uniform


class EncodedImages(NamedTuple):
    """What the encoder says of a batch of images, and what it said on the way."""

    stem: Float32[Array, "n h w d"]
    """Patches after the convolution."""
    with_positions: Float32[Array, "n t d"]
    encoded: Float[Array, "n t d"]
    """Tokens after the last norm, without a class token."""
    out: Float[Array, "n t o"] | Float[Array, "n o"]
    """After pooling and output projection."""


class HeadProjection(nnx.Module):
    """A linear map into or out of attention heads, with a bias."""

    def __init__(self, equation: str, shape: tuple[int, ...], bias: tuple[int, ...], *, rngs: nnx.Rngs):
        self.equation = equation
        inputs = len(shape) - len(bias)
        init = flattened(xavier_uniform(), inputs)
        self.kernel = nnx.Param(init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(bias, jnp.float32))

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply in the dtype of `x`."""
        y = jnp.einsum(self.equation, x, self.kernel[...].astype(x.dtype))
        bias = self.bias[...].astype(x.dtype)
        return y + jnp.expand_dims(bias, tuple(range(y.ndim - bias.ndim)))


class EncoderAttention(nnx.Module):
    """Attention of every token to every token, all of it in the dtype of the input."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs):
        into = (config.width, config.num_heads, config.head_dim)
        self.query = HeadProjection("ntd,deh->nteh", into, into[1:], rngs=rngs)
        self.key = HeadProjection("ntd,deh->nteh", into, into[1:], rngs=rngs)
        self.value = HeadProjection("ntd,deh->nteh", into, into[1:], rngs=rngs)
        self.out = HeadProjection("nteh,ehd->ntd", (*into[1:], into[0]), into[:1], rngs=rngs)
        self.heads = into[1:]
        self.kernel: Attention = "xla"

    def join(self) -> None:
        """Put the weights of queries, keys and values side by side, for attention to the same tokens."""
        if hasattr(self, "joined"):
            return
        parts = (self.query, self.key, self.value)
        kernels = [part.kernel[...] for part in parts]
        matrix = jnp.concatenate([kernel.reshape(*kernel.shape[:-2], -1) for kernel in kernels], axis=-1)
        self.joined = nnx.Param(split_like(matrix, kernels))
        joined_bias = jnp.concatenate([part.bias[...] for part in parts], axis=-2)
        self.joined_bias = nnx.Param(joined_bias.reshape(*joined_bias.shape[:-2], -1))
        del self.query, self.key, self.value

    def __call__(self, x: Float[Array, "n t d"], of: Float[Array, "n s d"]) -> Float[Array, "n t d"]:
        """Attend from `x` to `of`. The softmax is not float32 here, as in the published encoder; libraries
        compute it as they like."""
        if hasattr(self, "joined"):
            # The bias comes before heads are told apart, where libraries add it within the product.
            y = add_bias(product(x, self.joined), self.joined_bias[...].astype(x.dtype))
            q, k, v = jnp.split(y.reshape(*x.shape[:2], 3 * self.heads[0], self.heads[1]), 3, axis=2)
        else:
            q, k, v = self.query(x), self.key(of), self.value(of)
        q = q / jnp.sqrt(q.shape[-1]).astype(q.dtype)
        if self.kernel != "xla":
            return self.out(attend_by_library(self.kernel, q, k, v, mask=None))
        return self.out(attend_to_all(q, k, v))


def attend_to_all(
    q: Float[Array, "n t e h"], k: Float[Array, "n s e h"], v: Float[Array, "n s e h"]
) -> Float[Array, "n t e h"]:
    """Average the values by softmax(q · k), all of it in the dtype of the input."""
    weights = jax.nn.softmax(jnp.einsum("nteh,nseh->nets", q, k), axis=-1)
    # Laid out before it is projected: XLA would let that product turn it around, and for GPUs some versions then
    # find no way to compile it, as 72 numbers to a head fill no tile.
    out = jnp.einsum("nets,nseh->nteh", weights, v)
    return jax.lax.optimization_barrier(out.reshape(*out.shape[:2], -1)).reshape(out.shape)


class EncoderMlp(nnx.Module):
    """Two layers with the tanh form of GELU between them."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs):
        inits: dict[str, Initializer] = {
            "kernel_init": xavier_uniform(),
            "bias_init": nnx.initializers.normal(1e-6),
        }
        self.into = Linear(config.width, config.mlp_dim, rngs=rngs, **inits)
        self.out = Linear(config.mlp_dim, config.width, rngs=rngs, **inits)

    def align(self) -> None:
        """Fill the hidden layer up with zeros, which add nothing, to a length that kernels can divide."""
        if isinstance(self.into, Product):
            return
        room = aligned_length(self.into.bias.shape[-1]) - self.into.bias.shape[-1]

        def filled(parameter: nnx.Param, axis: int) -> nnx.Param:
            widths = [(0, 0)] * parameter.ndim
            widths[axis] = (0, room)
            return nnx.Param(split_like(jnp.pad(parameter[...], widths), [parameter[...]]))

        self.into.kernel, self.into.bias = filled(self.into.kernel, -1), filled(self.into.bias, -1)
        self.out.kernel = filled(self.out.kernel, -2)

    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
        """Apply to every token, in the dtype of `x`."""
        hidden = jax.nn.gelu(self.into(x, dtype=x.dtype), approximate=True)
        return self.out(hidden, dtype=x.dtype)


class EncoderBlock(nnx.Module):
    """A pre-norm block."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs):
        self.attention_norm = LayerNorm(config.width, rngs=rngs)
        self.attention = EncoderAttention(config, rngs=rngs)
        self.mlp_norm = LayerNorm(config.width, rngs=rngs)
        self.mlp = EncoderMlp(config, rngs=rngs)

    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
        """Apply attention and the feed-forward part."""
        y = self.attention_norm(x)
        x = x + self.attention(y, y)
        return x + self.mlp(self.mlp_norm(x))


class AttentionPooling(nnx.Module):
    """One learned probe attends to all tokens (`map`)."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs):
        self.probe = nnx.Param(xavier_uniform()(rngs.params(), (1, 1, config.width), jnp.float32))
        self.attention = EncoderAttention(config, rngs=rngs)
        self.norm = LayerNorm(config.width, rngs=rngs)
        self.mlp = EncoderMlp(config, rngs=rngs)

    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n d"]:
        """Pool."""
        probe = jnp.tile(self.probe[...].astype(x.dtype), (x.shape[0], 1, 1))
        x = self.attention(probe, x)
        return (x + self.mlp(self.norm(x)))[:, 0]


class ImageEncoder(nnx.Module):
    """Images to tokens."""

    def __init__(
        self,
        config: ImageEncoderConfig,
        *,
        image_hw: tuple[int, int],
        output_width: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
        recompute_layers: bool = True,
        unroll_layers: bool = False,
    ):
        self.config = config
        self.recompute_layers, self.unroll_layers = recompute_layers, unroll_layers
        self.dtype = dtype
        patch, width = config.patch_size, config.width
        self.grid = (image_hw[0] // patch, image_hw[1] // patch)
        self.patch = PatchConvolution(config, rngs=rngs)
        if config.position_embedding == "learned":
            init = nnx.initializers.normal(1 / np.sqrt(width))
            shape = (1, self.grid[0] * self.grid[1], width)
            self.positions = nnx.Param(init(rngs.params(), shape, jnp.float32))
        if config.pooling == "tok":
            self.class_token = nnx.Param(jnp.zeros((1, 1, width), jnp.float32))
        if config.stacked:
            self.blocks = stacked(lambda rngs: EncoderBlock(config, rngs=rngs), config.depth, rngs)
        else:
            self.blocks = nnx.List([EncoderBlock(config, rngs=rngs) for _ in range(config.depth)])
        self.final_norm = LayerNorm(width, rngs=rngs)
        if config.pooling == "map":
            self.pooling = AttentionPooling(config, rngs=rngs)
        if config.representation_head:
            self.representation = Linear(width, width, rngs=rngs)
        # The published encoder starts this one from zeros, as a classifier's. Behind it all image tokens would
        # be zero, where RMS norm multiplies gradients by a thousand; weights drawn here are to be trained.
        self.head = Linear(width, output_width, rngs=rngs, kernel_init=xavier_uniform())

    def __call__(self, images: Float32[Array, "n _y _x 3"]) -> EncodedImages:
        """Encode images of the size the encoder was made for.

        The convolution and the positions are float32; everything behind them has the encoder's dtype.
        """
        stem = self.patch(images)
        x = stem.reshape(stem.shape[0], -1, stem.shape[-1])
        if self.config.position_embedding == "learned":
            positions = self.positions[...].astype(jnp.float32)
        else:
            positions = sincos_2d(stem.shape[1], stem.shape[2], stem.shape[3])
        with_positions = x + jnp.broadcast_to(positions, x.shape)
        x = with_positions
        if self.config.pooling == "tok":
            token = self.class_token[...].astype(jnp.float32)
            x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, x.shape[2])), x], axis=1)
        x = self.final_norm(self._run_blocks(x.astype(self.dtype)))
        encoded = x[:, 1:] if self.config.pooling == "tok" else x
        return EncodedImages(stem, with_positions, encoded, self.project(self._pool(x)))

    def project(self, x: Float[Array, "*n d"]) -> Float[Array, "*n o"]:
        """Representation head, if there is one, and output projection."""
        if self.config.representation_head:
            x = jnp.tanh(self.representation(x, dtype=x.dtype))
        return self.head(x, dtype=x.dtype)

    def _run_blocks(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
        if not self.config.stacked:
            for block in self.blocks:
                x = block(x)
            return x
        graph, states = nnx.split(self.blocks)

        def block_of(x: jax.Array, state: nnx.State) -> tuple[jax.Array, None]:
            return nnx.merge(graph, state)(x), None

        layer = jax.checkpoint(block_of, prevent_cse=False) if self.recompute_layers else block_of
        return jax.lax.scan(layer, x, states, unroll=self.unroll_layers)[0]

    def _pool(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"] | Float[Array, "n d"]:
        match self.config.pooling:
            case "none":
                return x
            case "gap":
                return x.mean(axis=1)
            case "tok":
                return x[:, 0]
            case "map":
                return self.pooling(x)


class PatchConvolution(nnx.Module):
    """Patches to vectors: a convolution that steps by its own size, in float32."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs):
        patch = config.patch_size
        self.size = patch
        init = nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(init(rngs.params(), (patch, patch, 3, config.width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((config.width,), jnp.float32))

    def __call__(self, images: Float32[Array, "n _y _x 3"]) -> Float32[Array, "n h w d"]:
        """Convolve without padding; a border narrower than a patch is left out."""
        stem = jax.lax.conv_general_dilated(
            images,
            self.kernel[...].astype(jnp.float32),
            window_strides=(self.size, self.size),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return add_bias(stem, self.bias[...].astype(jnp.float32))


def sincos_2d(rows: int, columns: int, width: int) -> Float32[Array, "1 t d"]:
    """Fixed positions: sine and cosine of the column, then of the row (arXiv:2104.02057)."""
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    frequency = 1.0 / 10_000.0 ** (np.arange(width // 4) / (width // 4 - 1))
    by_x, by_y = np.outer(x, frequency), np.outer(y, frequency)
    table = np.concatenate([np.sin(by_x), np.cos(by_x), np.sin(by_y), np.cos(by_y)], axis=1)
    return jnp.asarray(table[None], jnp.float32)


def resample_positions(
    positions: Float[Array, "1 _t d"], old_hw: tuple[int, int], new_hw: tuple[int, int]
) -> Float[Array, "1 _u d"]:
    """Learned positions for another grid of patches, bilinear between the old ones."""
    width = positions.shape[-1]
    grid = positions.reshape(1, *old_hw, width)
    resized = jax.image.resize(grid, (1, *new_hw, width), method="linear", antialias=False)
    return resized.reshape(1, new_hw[0] * new_hw[1], width)
