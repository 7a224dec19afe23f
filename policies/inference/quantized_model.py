"""Models whose large products take weights and inputs in 8 bits.

A matrix has one scale per output, from its own numbers. Its inputs have one scale, from the largest input that
was seen on real observations (`simloop.policies.training.calibration`), so that nothing is measured while answering and a row does
not depend on its neighbours. What is small, or decides where things are, keeps its dtype: embeddings, norms,
attention itself, and the projections of state, actions and time.

Axis letters: l layers, d inputs, e outputs.
"""

from __future__ import annotations

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
from simloop.policies.models.parameters import Model
from simloop.policies.models.projections import Product
from simloop.policies.models.sharding import split_like

_DTYPES = {"int8": jnp.int8, "fp8": jnp.float8_e4m3fn}
_LARGEST = {"int8": 127.0, "fp8": 448.0}


class QuantizedProduct(Product):
    """x · W with both in 8 bits, summed in 32, and scaled back."""

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
          kind: Of the 8 bits.
          values: The matrix over `scales`, [.., e, d]: tensor cores take numbers of 8 bits along the sum alone.
          scales: Of the outputs.
          reach: The largest input.
          bias: Added to the outputs.
          input_axes: That the inputs' `d` numbers are in.
        """
        self.kind, self.input_axes = kind, input_axes
        step = reach / _LARGEST[kind]
        self.values = nnx.Param(values)
        # As numbers of their own: what is computed from others does not go into the kernel of the product.
        self.into, self.back = nnx.Param(1.0 / step), nnx.Param(step[..., None] * scales)
        self.bias = None if bias is None else nnx.Param(bias)

    def __call__(
        self, x: Float[Array, "..."], *, dtype: DTypeLike | None = None, start: int = 0
    ) -> Float[Array, "..."]:
        """Apply; the result has `dtype`, or that of `x`."""
        dtype = x.dtype if dtype is None else dtype
        x = _flat_inputs(x, self.input_axes)
        largest = _LARGEST[self.kind]
        wide = jnp.clip(x.astype(jnp.float32) * self.into[...], -largest, largest)
        # Taken in as they are: XLA would let the product turn inputs around, and for GPUs fails to compile that.
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
"""Makes what multiplies in the place of a matrix in all layers, of a name, matrices [l, d, e], biases [l, e], and
the number of axes that the inputs' `d` numbers are in."""


def with_products(model: Model, make: MakeProduct) -> Model:
    """The model with its large products made anew, in the image encoder and in every expert.

    Raises:
      QuantizationError: If it has adapters, or an image encoder whose layers are not stacked.
    """
    if not model.config.image_encoder.stacked or any(expert.lora for expert in model.config.experts):
        raise QuantizationError(
            f"{model.config.family} cannot be quantised with adapters beside its weights or with an image encoder "
            "whose layers are apart. Merge the adapters; exports of trainings have them merged."
        )
    graph, state = nnx.split(model)
    changed = nnx.merge(graph, state)
    for number, expert in enumerate(changed.transformer.experts):
        attention, mlp, name = expert.layers.attention, expert.layers.mlp, f"experts/{number}"
        attention.join()
        mlp.join()
        attention.joined = _made(make, f"{name}/attention/in", attention, "joined", attention.joined[...])
        out = attention.out.w[...]
        matrix = out.reshape(out.shape[0], -1, out.shape[-1])
        attention.out = make(f"{name}/attention/out", matrix, None, 2)
        mlp.joined = _made(make, f"{name}/mlp/in", mlp, "joined", mlp.joined[...])
        mlp.linear = make(f"{name}/mlp/out", mlp.linear.w[...], None, 1)
    blocks = changed.image_encoder.blocks
    attention, mlp = blocks.attention, blocks.mlp
    attention.join()
    attention.joined = _made(make, "images/attention/in", attention, "joined", attention.joined[...])
    out, bias = attention.out.kernel[...], attention.out.bias[...]
    attention.out = make("images/attention/out", out.reshape(out.shape[0], -1, out.shape[-1]), bias, 2)
    mlp.into = make("images/mlp/in", mlp.into.kernel[...], mlp.into.bias[...], 1)
    mlp.out = make("images/mlp/out", mlp.out.kernel[...], mlp.out.bias[...], 1)
    return changed


def _made(make: MakeProduct, name: str, holder: nnx.Module, attribute: str, matrix: Array) -> Product:
    """What stands in the place of a parameter, which goes first: an attribute is a parameter or a module."""
    delattr(holder, attribute)
    return make(name, matrix, None, 1)


def quantized(model: Model, quantization: Quantization) -> Model:
    """The model in 8 bits; other arrays are shared. Its parameters have no published names.

    Raises:
      QuantizationError: If the model cannot be quantised, or the ranges are not those of this model.
    """
    left_over = set(quantization.ranges)

    def make(name: str, matrix: Array, bias: Array | None, input_axes: int) -> Product:
        reach = quantization.ranges.get(name, ())
        left_over.discard(name)
        if len(reach) != matrix.shape[0] or not all(0 < x < np.inf for x in reach):
            raise QuantizationError(
                f"The model has {matrix.shape[0]} layers with a product {name!r}; the record has ranges "
                f"{list(reach)[:4]} for them. Quantise this checkpoint anew."
            )
        values, scales = _matrices_in_8_bits(matrix, quantization.kind)
        values = split_like(values, [matrix])
        return QuantizedProduct(quantization.kind, values, scales, _beside(matrix, reach), bias, input_axes)

    changed = with_products(model, make)
    if left_over:
        raise QuantizationError(
            f"The record has ranges for {', '.join(sorted(left_over))}, which the model does not have."
        )
    return changed


def _beside(matrix: Array, reach: Sequence[float]) -> Float32[Array, " l"]:
    """Numbers on all devices of a matrix."""
    where = getattr(matrix, "sharding", None)  # Shapes alone are nowhere.
    if isinstance(where, NamedSharding):
        return jax.device_put(np.array(reach, np.float32), NamedSharding(where.mesh, PartitionSpec()))
    return jnp.asarray(reach, jnp.float32)


class WatchedProduct(Product):
    """x · W as it is, whose inputs somebody watches."""

    def __init__(
        self,
        name: str,
        matrix: Float[Array, "l d e"],
        bias: Float[Array, "l e"] | None,
        input_axes: int,
        watch: Callable[[str, Any, Any], None],
    ):
        """`watch` is called with the name, the layer and the largest magnitude of its inputs."""
        self.name, self.input_axes, self.watch = name, input_axes, watch
        self.matrix = nnx.Param(matrix)
        self.layer = nnx.Param(jnp.arange(matrix.shape[0], dtype=jnp.int32))
        self.bias = None if bias is None else nnx.Param(bias)

    def __call__(
        self, x: Float[Array, "..."], *, dtype: DTypeLike | None = None, start: int = 0
    ) -> Float[Array, "..."]:
        """Apply in `dtype`, or that of `x`."""
        x = _flat_inputs(x, self.input_axes).astype(x.dtype if dtype is None else dtype)
        # A maximum may pass over what is not a number.
        largest = jnp.where(jnp.isnan(x).any(), jnp.nan, jnp.abs(x).max().astype(jnp.float32))

        jax.debug.callback(functools.partial(self.watch, self.name), self.layer[...], largest)
        y = jnp.matmul(x, self.matrix[...][:, start:].astype(x.dtype))
        return y if self.bias is None else y + self.bias[...][start:].astype(x.dtype)


def _flat_inputs(x: Array, axes: int) -> Array:
    return x.reshape(*x.shape[: x.ndim - axes], -1)


def _in_8_bits(x: Float32[Array, "..."], kind: Kind) -> Array:
    return (jnp.round(x) if kind == "int8" else x).astype(_DTYPES[kind])


def _matrices_in_8_bits(matrix: Float[Array, "l d e"], kind: Kind) -> tuple[Array, Float32[Array, "l e"]]:
    """Values [l, e, d] and scales, made layer by layer: widened to float32, all of the full size take gigabytes."""

    def one(matrix: Float[Array, "d e"]) -> tuple[Array, Array]:
        wide = matrix.astype(jnp.float32)
        scales = jnp.abs(wide).max(axis=0) / _LARGEST[kind]
        scales = jnp.where(scales > 0, scales, 1.0)
        return _in_8_bits((wide / scales).T, kind), scales

    return jax.jit(lambda matrices: jax.lax.map(one, matrices))(matrix)
