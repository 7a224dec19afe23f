"""Weights of one expert of the transformer: attention projections, feed-forward layers and norms of every layer.

Axis letters: b batch, t tokens, n heads, k key heads, h head width, c parts of one tensor, d width, f
feed-forward width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from simloop.policies.kernels import GatedProduct
from simloop.policies.models.configs import GemmaConfig
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.norms import AdaptiveRMSNorm, RMSNorm
from simloop.policies.models.projections import Einsum, Matrix

M = TypeVar("M", bound=nnx.Module)
lecun_normal = nnx.initializers.lecun_normal

FUSED_KERNEL_TOKENS = 256
"""Tokens of a batch from which the fused product of a library is called: it pays on prompts, not on flow steps."""


class AttentionProjections(nnx.Module):
    """Projections between the tokens of one expert and attention heads, in one layer."""

    def __init__(self, config: GemmaConfig, *, rngs: nnx.Rngs):
        heads, kv_heads, width, head = config.num_heads, config.num_kv_heads, config.width, config.head_dim
        self.packed = heads == kv_heads
        """With as many key heads as query heads, the published weights hold all three in one tensor."""
        if self.packed:
            self.qkv = _einsum(config, "btd,cndh->cbtnh", (3, heads, width, head), rngs, batch_axis=(0, 1))
        else:
            self.q = _einsum(config, "btd,ndh->btnh", (heads, width, head), rngs, batch_axis=(0,))
            self.kv = _einsum(config, "btd,ckdh->cbtkh", (2, kv_heads, width, head), rngs, batch_axis=(0, 1))
        self.out = _output_projection(config, rngs)

    def heads_of(
        self, x: Float[Array, "b t d"]
    ) -> tuple[Float[Array, "b t n h"], Float[Array, "b t k h"], Float[Array, "b t k h"]]:
        """Compute queries, keys and values."""
        if self.packed:
            q, k, v = self.qkv(x)
            return q, k, v
        k, v = self.kv(x)
        return self.q(x), k, v

    def keys_and_values_of(
        self, x: Float[Array, "b t d"]
    ) -> tuple[Float[Array, "b t k h"], Float[Array, "b t k h"]]:
        """Compute keys and values."""
        k, v = self.qkv(x)[1:] if self.packed else self.kv(x)
        return k, v


class FusedAttentionProjections(nnx.Module):
    """`AttentionProjections` with one matrix for queries, keys and values, without adapters.

    The published tensors have the summed axis in the middle and are transposed at every use.
    """

    def __init__(self, config: GemmaConfig, *, rngs: nnx.Rngs):
        self.sizes = config.num_heads, config.num_kv_heads, config.head_dim
        outputs = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        self.qkv = Matrix(config.width, outputs, rngs=rngs)
        self.out = _output_projection(config, rngs)

    def heads_of(
        self, x: Float[Array, "b t d"]
    ) -> tuple[Float[Array, "b t n h"], Float[Array, "b t k h"], Float[Array, "b t k h"]]:
        """Compute queries, keys and values."""
        heads, _, head = self.sizes
        y = self.qkv(x)
        q = y[..., : heads * head].reshape(*x.shape[:2], heads, head)
        return q, *self._split(y[..., heads * head :])

    def keys_and_values_of(
        self, x: Float[Array, "b t d"]
    ) -> tuple[Float[Array, "b t k h"], Float[Array, "b t k h"]]:
        """Compute keys and values."""
        heads, _, head = self.sizes
        return self._split(self.qkv(x, start=heads * head))

    def _split(self, y: Float[Array, "b t e"]) -> tuple[Float[Array, "b t k h"], Float[Array, "b t k h"]]:
        _, kv_heads, head = self.sizes
        k, v = jnp.split(y, 2, axis=-1)
        shape = (*y.shape[:2], kv_heads, head)
        return k.reshape(shape), v.reshape(shape)


class GatedMlp(nnx.Module):
    """(gelu(x·W0) · (x·W1)) · W2 with the tanh form of GELU."""

    def __init__(self, config: GemmaConfig, *, rngs: nnx.Rngs):
        width, hidden = config.width, config.mlp_dim
        self.gating = Einsum(
            "btd,cdf->cbtf",
            (2, width, hidden),
            kernel_init=lecun_normal(batch_axis=(0,)),
            rngs=rngs,
            lora_rank=config.lora.rank if config.lora else None,
        )
        self.linear = _down_projection(config, rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Apply to every token."""
        gate, up = self.gating(x)
        return self.linear(jax.nn.gelu(gate, approximate=True) * up)


class FusedGatedMlp(nnx.Module):
    """`GatedMlp` with one matrix for gate and up, without adapters."""

    def __init__(self, config: GemmaConfig, *, kernel: GatedProduct, rngs: nnx.Rngs):
        self.kernel = kernel
        self.gating = Matrix(config.width, 2 * config.mlp_dim, rngs=rngs)
        self.linear = _down_projection(config, rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Apply to every token."""
        if self.kernel != "xla" and x.shape[0] * x.shape[1] >= FUSED_KERNEL_TOKENS:
            return self.linear(gated_product_by_library(x, self.gating.matrix[...].astype(x.dtype)))
        return self.linear(gated_product(self.gating(x)))


def gated_product(both: Float[Array, "*b _e"]) -> Float[Array, "*b _f"]:
    """Compute gelu(x·W0) · (x·W1) from both products side by side."""
    gate, up = jnp.split(both, 2, axis=-1)
    return jax.nn.gelu(gate, approximate=True) * up


def gated_product_by_library(x: Float[Array, "*b d"], matrix: Float[Array, "d _e"]) -> Float[Array, "*b _f"]:
    """Compute `gated_product(x @ matrix)` in one fused kernel.

    Raises:
      ImportError: If the library is not installed.
      NotImplementedError: If it has no kernel for these shapes on this device.
    """
    import tokamax

    weights = matrix.reshape(matrix.shape[0], 2, -1)
    return tokamax.gated_linear_unit(x, weights, activation=jax.nn.gelu)


class Block(nnx.Module):
    """Weights of one expert in one layer."""

    def __init__(
        self,
        config: GemmaConfig,
        *,
        adaptive_norm: bool,
        rngs: nnx.Rngs,
        fused: bool = False,
        kernel: GatedProduct = "xla",
    ):
        norm = AdaptiveRMSNorm if adaptive_norm else RMSNorm
        attention = FusedAttentionProjections if fused else AttentionProjections
        self.pre_attention_norm = norm(config.width, rngs=rngs)
        self.attention = attention(config, rngs=rngs)
        self.pre_mlp_norm = norm(config.width, rngs=rngs)
        self.mlp = FusedGatedMlp(config, kernel=kernel, rngs=rngs) if fused else GatedMlp(config, rngs=rngs)


class Expert(nnx.Module):
    """Weights of one expert: blocks stacked along a leading layer axis, and the final norm."""

    def __init__(
        self,
        config: GemmaConfig,
        *,
        adaptive_norm: bool,
        rngs: nnx.Rngs,
        plan: InferencePlan = PLAIN,
        kernel: GatedProduct = "xla",
    ):
        """`kernel` computes the gated products of a fused expert."""
        fused = bool(plan.fused_projections) and config.lora is None

        def block(rngs: nnx.Rngs) -> Block:
            return Block(config, adaptive_norm=adaptive_norm, rngs=rngs, fused=fused, kernel=kernel)

        self.layers = stacked(block, config.depth, rngs)
        norm = AdaptiveRMSNorm if adaptive_norm else RMSNorm
        self.final_norm = norm(config.width, rngs=rngs)


def stacked(make: Callable[[nnx.Rngs], M], depth: int, rngs: nnx.Rngs) -> M:
    """Make `depth` modules, each from its own key, as one module with a leading layer axis."""

    def make_one(key: jax.Array) -> nnx.State:
        return nnx.state(make(nnx.Rngs(key)))

    graph, _ = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    # One after another: drawing the feed-forward weights of all layers at once takes gigabytes.
    return nnx.merge(graph, jax.lax.map(make_one, jax.random.split(rngs.params(), depth)))


def _einsum(
    config: GemmaConfig, equation: str, shape: tuple[int, ...], rngs: nnx.Rngs, **init_axes: object
) -> Einsum:
    return Einsum(
        equation,
        shape,
        kernel_init=lecun_normal(**init_axes),
        rngs=rngs,
        lora_rank=config.lora.rank if config.lora else None,
        lora_scaling=config.lora.scaling if config.lora else 1.0,
    )


def _output_projection(config: GemmaConfig, rngs: nnx.Rngs) -> Einsum:
    shape = (config.num_heads, config.head_dim, config.width)
    return _einsum(config, "btnh,nhd->btd", shape, rngs, in_axis=(-3, -2), out_axis=-1)


def _down_projection(config: GemmaConfig, rngs: nnx.Rngs) -> Einsum:
    rank = config.lora.rank if config.lora else None
    shape = (config.mlp_dim, config.width)
    return Einsum("btf,fd->btd", shape, kernel_init=lecun_normal(), rngs=rngs, lora_rank=rank)
