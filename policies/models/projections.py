"""Linear maps with explicit casts: `Linear` with a bias, `Einsum` with optional adapters, fused matrices.

Axis letters: b batch, i inputs, o outputs.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simloop.policies.models import lora

Initializer = Callable[..., jax.Array]

LORA_INIT = nnx.initializers.normal(0.01)
"""Initializer of both halves of an adapter: a fresh adapter changes the model, unlike the usual zero start."""


class Linear(nnx.Module):
    """x · kernel + bias."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        rngs: nnx.Rngs,
        kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
    ):
        kernel_init = kernel_init or nnx.initializers.lecun_normal()
        bias_init = bias_init or nnx.initializers.zeros_init()
        self.kernel = nnx.Param(kernel_init(rngs.params(), (inputs, outputs), jnp.float32))
        self.bias = nnx.Param(bias_init(rngs.params(), (outputs,), jnp.float32))

    def __call__(self, x: Float[Array, "*b i"], *, dtype: DTypeLike | None = None) -> Float[Array, "*b o"]:
        """Apply in `dtype`; by default, in the wider of the dtypes of input and kernel."""
        if dtype is None:
            dtype = wider(x.dtype, self.kernel[...].dtype)
        kernel, bias = self.kernel[...].astype(dtype), self.bias[...].astype(dtype)
        return add_bias(jnp.matmul(x.astype(dtype), kernel), bias)


class Einsum(nnx.Module):
    """One weight tensor applied by an einsum, with an optional low-rank adapter beside it.

    The weight is cast to the dtype of the input.
    """

    def __init__(
        self,
        equation: str,
        shape: tuple[int, ...],
        *,
        kernel_init: Initializer,
        rngs: nnx.Rngs,
        lora_rank: int | None = None,
        lora_scaling: float = 1.0,
    ):
        self.equation = equation
        self.lora_scaling = lora_scaling
        self.adapted = lora_rank is not None
        self.w = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        if lora_rank is not None:
            a_shape, b_shape = lora.adapter_shapes(shape, lora_rank)
            self.lora_a = nnx.Param(LORA_INIT(rngs.params(), a_shape, jnp.float32))
            self.lora_b = nnx.Param(LORA_INIT(rngs.params(), b_shape, jnp.float32))

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply to `x`, in the dtype of `x`."""
        y = jnp.einsum(self.equation, x, self.w[...].astype(x.dtype))
        if not self.adapted:
            return y
        a, b = self.lora_a[...].astype(x.dtype), self.lora_b[...].astype(x.dtype)
        return y + lora.adapt(self.equation, x, a, b) * self.lora_scaling


class Product(nnx.Module, abc.ABC):
    """Multiplication by a weight matrix, in whatever number format the weights have."""

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, "..."], *, dtype: DTypeLike | None = None, start: int = 0
    ) -> Float[Array, "..."]:
        """Return x · matrix without the first `start` outputs, in `dtype` or that of `x`."""


class Matrix(Product):
    """Multiplication by a matrix of floating-point numbers, cast to the dtype of the input."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.lecun_normal()
        self.matrix = nnx.Param(init(rngs.params(), (inputs, outputs), jnp.float32))

    def __call__(
        self, x: Float[Array, "*b i"], *, dtype: DTypeLike | None = None, start: int = 0
    ) -> Float[Array, "*b _o"]:
        x = x if dtype is None else x.astype(dtype)
        return jnp.matmul(x, self.matrix[..., start:].astype(x.dtype))


def add_bias(x: Float[Array, "*b o"], bias: Float[Array, " o"]) -> Float[Array, "*b o"]:
    """Add a vector to the last axis."""
    return x + jnp.expand_dims(bias, tuple(range(x.ndim - 1)))


ALIGNED_TO = 128
"""Lengths of sums that kernels can split: up to 16 equal parts, each a multiple of 16 bytes."""


def aligned_length(length: int) -> int:
    """Round a length up to a multiple of `ALIGNED_TO`."""
    return -(-length // ALIGNED_TO) * ALIGNED_TO


def wider(first: DTypeLike, second: DTypeLike) -> jnp.dtype:
    """Return the wider of two dtypes, float32 or bfloat16."""
    return first if first == second else jnp.dtype(jnp.float32)


def flattened(init: Initializer, inputs: int) -> Initializer:
    """Return an initializer that treats a tensor as a matrix: its first `inputs` axes by the others."""

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        matrix = (math.prod(shape[:inputs]), math.prod(shape[inputs:]))
        return init(key, matrix, dtype).reshape(shape)

    return initialize
