"""Layout of weights for inference: fused projections and aligned hidden layers.

Axis letters: l layers, d inputs, e outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from simloop.policies.inference.host_memory import from_host, in_host_memory
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.model_input import AnyArray
from simloop.policies.models.parameters import FlatParameters, Model, flatten, model_from, published_name
from simloop.policies.models.projections import aligned_length
from simloop.policies.models.sharding import split_like


def laid_out(model: Model, plan: InferencePlan, *, consume: bool = False) -> Model:
    """Return the model as a plan executes it; shares all arrays whose layout stays.

    Args:
      model: In the published layout, or already laid out for this plan.
      plan: With all choices made (`InferencePlan.on`).
      consume: Delete arrays once they are laid out anew, so that memory does not hold them twice. `model` must
        not be used afterwards.
    """
    if model.plan == plan:
        return model
    return model_from(model.config, lay_out(flatten(model), model.config, plan, consume=consume), plan=plan)


def lay_out(
    params: FlatParameters, config: ModelConfig, plan: InferencePlan, *, consume: bool = False
) -> FlatParameters:
    """Return published parameters in the layout of a plan, under the names of `abstract_model(config, plan)`.

    Experts with adapters keep their layout, and so do image encoders whose layers are not stacked.

    Args:
      params: By published name.
      config: Of the model.
      plan: With all choices made.
      consume: Delete arrays once they are laid out anew.
    """
    params = dict(params)
    for sources, target, make in _changes(config, plan):
        before = [params.pop(published_name(source)) for source in sources]
        after = _made(make, before)
        if consume:
            jax.block_until_ready(after)
            for array in before:
                if isinstance(array, jax.Array) and array is not after:
                    array.delete()
        params[published_name(target)] = after
    return params


def _made(make: Callable[..., Any], before: list[Any]) -> jax.Array:
    if not all(in_host_memory(array) for array in before):
        made = jax.jit(make)(*before)  # In one step, which holds no third copy of the weights.
        return split_like(made, before)
    views = [np.asarray(array) for array in before]
    after = make(*views)
    if any(np.may_share_memory(after, view) for view in views):  # `before` may be deleted.
        after = after.copy()
    return from_host(after, before[0])


Change = tuple[Sequence[str], str, Callable[..., Any]]
"""Paths of parameters within the model, the path of the one that replaces them, and how it is made."""


def _changes(config: ModelConfig, plan: InferencePlan) -> Iterator[Change]:
    if not plan.fused_projections:
        return
    for i, expert in enumerate(config.experts):
        layers = f"transformer/experts/{i}/layers"
        if expert.lora is not None:
            continue
        packed = expert.num_heads == expert.num_kv_heads
        parts = ["qkv"] if packed else ["q", "kv"]
        sources = [f"{layers}/attention/{part}/w" for part in parts]
        yield sources, f"{layers}/attention/qkv/matrix", _fused_packed_heads if packed else _fused_heads
        yield [f"{layers}/mlp/gating/w"], f"{layers}/mlp/gating/matrix", _summed_first
    if not config.image_encoder.stacked:
        return
    attention, mlp = "image_encoder/blocks/attention", "image_encoder/blocks/mlp"
    parts = ["query", "key", "value"]
    yield [f"{attention}/{part}/kernel" for part in parts], f"{attention}/qkv/matrix", _side_by_side
    yield [f"{attention}/{part}/bias" for part in parts], f"{attention}/qkv_bias", _biases_side_by_side
    if plan.aligned:
        for path, axis in (("into/kernel", -1), ("into/bias", -1), ("out/kernel", -2)):
            yield [f"{mlp}/{path}"], f"{mlp}/{path}", functools.partial(_padded, axis=axis)


# The functions below take arrays of NumPy or of JAX and return the same kind.


def _summed_first(w: Float[AnyArray, "..."], *, axes: int = 1) -> Float[AnyArray, "*l d e"]:
    """Turn a tensor [.., one or two axes, d, e] into matrices [.., d, all others]."""
    summed = w.ndim - 2
    w = _library(w).moveaxis(w, summed, summed - axes)
    return w.reshape(*w.shape[: summed - axes + 1], -1)


def _fused_heads(q: Float[AnyArray, "..."], kv: Float[AnyArray, "..."]) -> Float[AnyArray, "l d e"]:
    return _library(q).concatenate([_summed_first(q), _summed_first(kv, axes=2)], axis=-1)


def _fused_packed_heads(qkv: Float[AnyArray, "..."]) -> Float[AnyArray, "l d e"]:
    return _summed_first(qkv, axes=2)


def _side_by_side(*kernels: Float[AnyArray, "..."]) -> Float[AnyArray, "l d e"]:
    return _library(kernels[0]).concatenate(
        [kernel.reshape(*kernel.shape[:-2], -1) for kernel in kernels], axis=-1
    )


def _biases_side_by_side(*biases: Float[AnyArray, "..."]) -> Float[AnyArray, "l e"]:
    return _library(biases[0]).concatenate([bias.reshape(*bias.shape[:-2], -1) for bias in biases], axis=-1)


def _padded(w: Float[AnyArray, "..."], *, axis: int) -> Float[AnyArray, "..."]:
    """Pad one axis with zeros, which add nothing, to an aligned length."""
    widths = [(0, 0)] * w.ndim
    widths[axis] = (0, aligned_length(w.shape[axis]) - w.shape[axis])
    return _library(w).pad(w, widths)


def _library(array: AnyArray) -> Any:
    """NumPy, or the part of JAX with the same functions."""
    return np if isinstance(array, np.ndarray) else jnp
