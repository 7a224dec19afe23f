"""SigLIP image encoder (arXiv:2303.15343), with the options of the published checkpoints.

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

from simloop.policies.kernels import Attention
from simloop.policies.models.attention import attend_by_library
from simloop.policies.models.configs import ImageEncoderConfig
from simloop.policies.models.experts import stacked
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.norms import LayerNorm
from simloop.policies.models.projections import (
    Initializer,
    Linear,
    Matrix,
    add_bias,
    aligned_length,
    flattened,
)

xavier_uniform = nnx.initializers.xavier_uniform


class EncodedImages(NamedTuple):
    """Output of the encoder for a batch of images, with intermediate results."""

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
    """Attention of every token to every token, in the dtype of the input."""

    def __init__(self, config: ImageEncoderConfig, *, kernel: Attention = "xla", rngs: nnx.Rngs):
        self.kernel = kernel
        into = (config.width, config.num_heads, config.head_dim)
        self.query = HeadProjection("ntd,deh->nteh", into, into[1:], rngs=rngs)
        self.key = HeadProjection("ntd,deh->nteh", into, into[1:], rngs=rngs)
        self.value = HeadProjection("ntd,deh->nteh", into, into[1:], rngs=rngs)
        self.out = _output_projection(config, rngs)

    def __call__(
        self, x: Float[Array, "n t d"], of: Float[Array, "n s d"] | None = None
    ) -> Float[Array, "n t d"]:
        """Attend from `x` to `of`, by default to `x` itself."""
        of = x if of is None else of
        return self.out(attend_to_all(self.query(x), self.key(of), self.value(of), self.kernel))


class FusedEncoderAttention(nnx.Module):
    """`EncoderAttention` of tokens to themselves, with one matrix for queries, keys and values."""

    def __init__(self, config: ImageEncoderConfig, *, kernel: Attention = "xla", rngs: nnx.Rngs):
        self.kernel = kernel
        self.heads = (config.num_heads, config.head_dim)
        outputs = 3 * config.num_heads * config.head_dim
        self.qkv = Matrix(config.width, outputs, rngs=rngs)
        self.qkv_bias = nnx.Param(jnp.zeros((outputs,), jnp.float32))
        self.out = _output_projection(config, rngs)

    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
        """Attend from every token to every token."""
        # The bias is added before the heads are split, where libraries add it within the product.
        y = add_bias(self.qkv(x), self.qkv_bias[...].astype(x.dtype))
        q, k, v = jnp.split(y.reshape(*x.shape[:2], 3 * self.heads[0], self.heads[1]), 3, axis=2)
        return self.out(attend_to_all(q, k, v, self.kernel))


def _output_projection(config: ImageEncoderConfig, rngs: nnx.Rngs) -> HeadProjection:
    shape = (config.num_heads, config.head_dim, config.width)
    return HeadProjection("nteh,ehd->ntd", shape, shape[2:], rngs=rngs)


def attend_to_all(
    q: Float[Array, "n t e h"],
    k: Float[Array, "n s e h"],
    v: Float[Array, "n s e h"],
    kernel: Attention = "xla",
) -> Float[Array, "n t e h"]:
    """Average the values by softmax(q · k / sqrt(h)).

    XLA computes the softmax in the dtype of the input, as the published encoder does; libraries choose their own.
    """
    q = q / jnp.sqrt(q.shape[-1]).astype(q.dtype)
    if kernel != "xla":
        return attend_by_library(kernel, q, k, v, mask=None)
    weights = jax.nn.softmax(jnp.einsum("nteh,nseh->nets", q, k), axis=-1)
    # Laid out before the output projection: XLA would fuse the transpose into that product, which some versions cannot
    # compile for GPUs, as heads of 72 numbers fill no tile.
    out = jnp.einsum("nets,nseh->nteh", weights, v)
    return jax.lax.optimization_barrier(out.reshape(*out.shape[:2], -1)).reshape(out.shape)


class EncoderMlp(nnx.Module):
    """Two layers with the tanh form of GELU between them."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs, aligned: bool = False):
        """`aligned` pads the hidden layer to a length that kernels can split."""
        inits: dict[str, Initializer] = {
            "kernel_init": xavier_uniform(),
            "bias_init": nnx.initializers.normal(1e-6),
        }
        hidden = aligned_length(config.mlp_dim) if aligned else config.mlp_dim
        self.into = Linear(config.width, hidden, rngs=rngs, **inits)
        self.out = Linear(hidden, config.width, rngs=rngs, **inits)

    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
        """Apply to every token, in the dtype of `x`."""
        hidden = jax.nn.gelu(self.into(x, dtype=x.dtype), approximate=True)
        return self.out(hidden, dtype=x.dtype)


class EncoderBlock(nnx.Module):
    """A pre-norm block."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs, plan: InferencePlan = PLAIN):
        fused = bool(plan.fused_projections) and config.stacked
        attention = FusedEncoderAttention if fused else EncoderAttention
        self.attention_norm = LayerNorm(config.width, rngs=rngs)
        self.attention = attention(config, kernel=plan.kernels.image_attention, rngs=rngs)
        self.mlp_norm = LayerNorm(config.width, rngs=rngs)
        self.mlp = EncoderMlp(config, rngs=rngs, aligned=fused and bool(plan.aligned))

    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
        """Apply attention and the feed-forward part."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class AttentionPooling(nnx.Module):
    """Pooling by one learned query that attends to all tokens (`map`)."""

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
    """Encoder from images to tokens."""

    def __init__(
        self,
        config: ImageEncoderConfig,
        *,
        image_hw: tuple[int, int],
        output_width: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
        recompute_layers: bool = True,
        plan: InferencePlan = PLAIN,
    ):
        self.config = config
        self.recompute_layers, self.unroll_layers = recompute_layers, bool(plan.unroll_layers)
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
            self.blocks = stacked(lambda rngs: EncoderBlock(config, rngs=rngs, plan=plan), config.depth, rngs)
        else:
            self.blocks = nnx.List([EncoderBlock(config, rngs=rngs, plan=plan) for _ in range(config.depth)])
        self.final_norm = LayerNorm(width, rngs=rngs)
        if config.pooling == "map":
            self.pooling = AttentionPooling(config, rngs=rngs)
        if config.representation_head:
            self.representation = Linear(width, width, rngs=rngs)
        # Published encoders start this layer from zeros, as a classifier does. All image tokens would then be zero,
        # where RMS norm multiplies gradients by a thousand; weights drawn here are to be trained.
        self.head = Linear(width, output_width, rngs=rngs, kernel_init=xavier_uniform())

    def __call__(self, images: Float32[Array, "n _y _x 3"]) -> EncodedImages:
        """Encode images of the size that the encoder was built for.

        The convolution and the positions are float32; all later layers compute in the dtype of the encoder.
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
        """Apply the representation head, if there is one, and the output projection."""
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
    """Patch embedding: a convolution whose stride is its size, in float32."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs):
        patch = config.patch_size
        self.size = patch
        init = nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(init(rngs.params(), (patch, patch, 3, config.width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((config.width,), jnp.float32))

    def __call__(self, images: Float32[Array, "n _y _x 3"]) -> Float32[Array, "n h w d"]:
        """Convolve without padding; a border narrower than a patch is dropped."""
        stem = jax.lax.conv_general_dilated(
            images,
            self.kernel[...].astype(jnp.float32),
            window_strides=(self.size, self.size),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return add_bias(stem, self.bias[...].astype(jnp.float32))


def sincos_2d(rows: int, columns: int, width: int) -> Float32[Array, "1 t d"]:
    """Return fixed positions: sine and cosine of the column, then of the row (arXiv:2104.02057)."""
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    frequency = 1.0 / 10_000.0 ** (np.arange(width // 4) / (width // 4 - 1))
    by_x, by_y = np.outer(x, frequency), np.outer(y, frequency)
    table = np.concatenate([np.sin(by_x), np.cos(by_x), np.sin(by_y), np.cos(by_y)], axis=1)
    return jnp.asarray(table[None], jnp.float32)


def resample_positions(
    positions: Float[Array, "1 _t d"], old_hw: tuple[int, int], new_hw: tuple[int, int]
) -> Float[Array, "1 _u d"]:
    """Interpolate learned positions bilinearly to another grid of patches. Kept for parity with the reference."""
    width = positions.shape[-1]
    grid = positions.reshape(1, *old_hw, width)
    resized = jax.image.resize(grid, (1, *new_hw, width), method="linear", antialias=False)
    return resized.reshape(1, new_hw[0] * new_hw[1], width)
