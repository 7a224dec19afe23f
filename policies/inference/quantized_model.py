"""Models whose large products take weights and inputs in 8 bits.

A matrix has one scale per output, computed from its values. Its inputs have one scale, computed from the largest input
on recorded observations (`simloop.policies.training.calibration`), so that nothing is measured at inference and a
row does not depend on other rows. Embeddings, norms, attention itself, and the projections of state, actions and time
keep their dtype.

Axis letters: l layers, n heads, h head width, d inputs, e outputs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from simloop.policies.inference.quantization import Kind, Quantization, QuantizationError
from simloop.policies.inference.weight_layout import laid_out
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.parameters import Model
from simloop.policies.models.projections import Product
from simloop.policies.models.sharding import split_like

_DTYPES = {"int8": jnp.int8, "fp8": jnp.float8_e4m3fn}
_LARGEST = {"int8": 127.0, "fp8": 448.0}


class QuantizedProduct(Product):
    """x · W with both in 8 bits, accumulated in 32 bits and scaled back."""

    def __init__(
        self,
        kind: Kind,
        values: Array,
        scales: Float32[Array, "*l e"],
        reach: Float32[Array, "*l"],
        bias: Float[Array, "*l e"] | None,
        input_axes: int,
    ):
        """Make a product.

        Args:
          kind: Number format.
          values: The matrix divided by `scales`, [.., e, d]: tensor cores read 8-bit numbers along the sum only.
          scales: Scale of each output.
          reach: Largest magnitude of the inputs.
          bias: Added to the outputs.
          input_axes: Number of trailing axes that hold the `d` inputs.
        """
        self.kind, self.input_axes = kind, input_axes
        step = reach / _LARGEST[kind]
        self.values = nnx.Param(values)
        # Stored rather than computed from each other: a computed factor is not fused into the kernel of the product.
        self.into, self.back = nnx.Param(1.0 / step), nnx.Param(step[..., None] * scales)
        self.bias = None if bias is None else nnx.Param(bias)

    def __call__(
        self, x: Float[Array, "..."], *, dtype: DTypeLike | None = None, start: int = 0
    ) -> Float[Array, "..."]:
        """Apply; the result has `dtype`, or the dtype of `x`."""
        dtype = x.dtype if dtype is None else dtype
        x = _flat_inputs(x, self.input_axes)
        largest = _LARGEST[self.kind]
        wide = jnp.clip(x.astype(jnp.float32) * self.into[...], -largest, largest)
        # Otherwise XLA fuses a transpose of the inputs into the product, which it cannot compile for GPUs.
        small = jax.lax.optimization_barrier(_in_8_bits(wide, self.kind))
        summed = jnp.int32 if self.kind == "int8" else jnp.float32
        y = jax.lax.dot_general(
            small,
            self.values[...][start:],
            (((x.ndim - 1,), (1,)), ((), ())),
            preferred_element_type=summed,
        )
        y = y.astype(jnp.float32) * self.back[...][start:]
        if self.bias is not None:
            y = y + self.bias[...][start:].astype(jnp.float32)
        return y.astype(dtype)


MakeProduct: TypeAlias = Callable[[str, Array, Array | None, int], Product]
"""Makes the product of all layers from its name, matrices [l, d, e], biases [l, e], and the number of trailing axes
that hold the `d` inputs."""


def with_products(model: Model, make: MakeProduct, plan: InferencePlan = PLAIN) -> Model:
    """Return a model with fused projections whose large products are replaced, for a plan.

    Raises:
      QuantizationError: If the model has adapters, or an image encoder whose layers are not stacked.
    """
    if not model.config.image_encoder.stacked or any(expert.lora for expert in model.config.experts):
        raise QuantizationError(
            f"{model.config.family} cannot be quantized with adapters or with an image encoder whose layers are not "
            "stacked. Merge the adapters; exports of training runs have them merged."
        )
    plan = dataclasses.replace(
        plan, fused_projections=True, kernels=dataclasses.replace(plan.kernels, gated_product="xla")
    )
    changed = nnx.merge(*nnx.split(laid_out(model, plan)))
    for i, expert in enumerate(changed.transformer.experts):
        attention, mlp, name = expert.layers.attention, expert.layers.mlp, f"experts/{i}"
        attention.qkv = make(f"{name}/attention/in", attention.qkv.matrix[...], None, 1)
        attention.out = make(f"{name}/attention/out", _flat_matrix(attention.out.w[...]), None, 2)
        mlp.gating = make(f"{name}/mlp/in", mlp.gating.matrix[...], None, 1)
        mlp.linear = make(f"{name}/mlp/out", mlp.linear.w[...], None, 1)
    attention, mlp = changed.image_encoder.blocks.attention, changed.image_encoder.blocks.mlp
    attention.qkv = make("images/attention/in", attention.qkv.matrix[...], None, 1)
    out = attention.out
    attention.out = make("images/attention/out", _flat_matrix(out.kernel[...]), out.bias[...], 2)
    mlp.into = make("images/mlp/in", mlp.into.kernel[...], mlp.into.bias[...], 1)
    mlp.out = make("images/mlp/out", mlp.out.kernel[...], mlp.out.bias[...], 1)
    return changed


def _flat_matrix(w: Float[Array, "l n h d"]) -> Float[Array, "l _e d"]:
    return w.reshape(w.shape[0], -1, w.shape[-1])


def quantized(model: Model, quantization: Quantization, plan: InferencePlan = PLAIN) -> Model:
    """Return the model in 8 bits, laid out for a plan with fused projections; other arrays are shared.

    Raises:
      QuantizationError: If the model cannot be quantized, or the ranges belong to another model.
    """
    unused = set(quantization.ranges)

    def make(name: str, matrix: Array, bias: Array | None, input_axes: int) -> Product:
        reach = quantization.ranges.get(name, ())
        unused.discard(name)
        if len(reach) != matrix.shape[0] or not all(0 < x < np.inf for x in reach):
            raise QuantizationError(
                f"The model has {matrix.shape[0]} layers with a product {name!r}; the record has ranges "
                f"{list(reach)[:4]} for them. Quantize this checkpoint anew."
            )
        values, scales = _matrices_in_8_bits(matrix, quantization.kind)
        values = split_like(values, [matrix])
        return QuantizedProduct(quantization.kind, values, scales, _beside(matrix, reach), bias, input_axes)

    changed = with_products(model, make, plan)
    if unused:
        raise QuantizationError(
            f"The record has ranges for {', '.join(sorted(unused))}, which the model does not have."
        )
    return changed


def _beside(matrix: Array, reach: Sequence[float]) -> Float32[Array, " l"]:
    """Replicate numbers on the devices of a matrix."""
    where = getattr(matrix, "sharding", None)  # Abstract arrays have none.
    if isinstance(where, NamedSharding):
        return jax.device_put(np.array(reach, np.float32), NamedSharding(where.mesh, PartitionSpec()))
    return jnp.asarray(reach, jnp.float32)


class ObservedProduct(Product):
    """x · W that reports the largest magnitude of its inputs."""

    def __init__(
        self,
        name: str,
        matrix: Float[Array, "l d e"],
        bias: Float[Array, "l e"] | None,
        input_axes: int,
        on_input: Callable[[str, Any, Any], None],
    ):
        """`on_input` is called with the name, the layer and the largest magnitude of the inputs."""
        self.name, self.input_axes, self.on_input = name, input_axes, on_input
        self.matrix = nnx.Param(matrix)
        self.layer = nnx.Param(jnp.arange(matrix.shape[0], dtype=jnp.int32))
        self.bias = None if bias is None else nnx.Param(bias)

    def __call__(
        self, x: Float[Array, "..."], *, dtype: DTypeLike | None = None, start: int = 0
    ) -> Float[Array, "..."]:
        """Apply in `dtype`, or the dtype of `x`."""
        x = _flat_inputs(x, self.input_axes).astype(x.dtype if dtype is None else dtype)
        # A maximum may ignore NaN.
        largest = jnp.where(jnp.isnan(x).any(), jnp.nan, jnp.abs(x).max().astype(jnp.float32))

        jax.debug.callback(functools.partial(self.on_input, self.name), self.layer[...], largest)
        y = jnp.matmul(x, self.matrix[...][:, start:].astype(x.dtype))
        return y if self.bias is None else y + self.bias[...][start:].astype(x.dtype)


def _flat_inputs(x: Array, axes: int) -> Array:
    return x.reshape(*x.shape[: x.ndim - axes], -1)


def _in_8_bits(x: Float32[Array, "..."], kind: Kind) -> Array:
    return (jnp.round(x) if kind == "int8" else x).astype(_DTYPES[kind])


def _matrices_in_8_bits(matrix: Float[Array, "l d e"], kind: Kind) -> tuple[Array, Float32[Array, "l e"]]:
    """Quantize matrices to values [l, e, d] and scales, layer by layer: in float32, all layers take gigabytes."""

    def one(matrix: Float[Array, "d e"]) -> tuple[Array, Array]:
        wide = matrix.astype(jnp.float32)
        scales = jnp.abs(wide).max(axis=0) / _LARGEST[kind]
        scales = jnp.where(scales > 0, scales, 1.0)
        return _in_8_bits((wide / scales).T, kind), scales

    return jax.jit(lambda matrices: jax.lax.map(one, matrices))(matrix)
