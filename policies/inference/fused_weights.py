"""A model as inference calls it: weights that read the same tokens side by side, kernels of libraries."""

from __future__ import annotations

from typing import Any, Literal

import jax
from flax import nnx

from simloop.policies.models.kernels import Kernels
from simloop.policies.models.parameters import Model


def with_kernels(model: Model, kernels: Kernels) -> Model:
    """The same model, computed by these kernels wherever it answers; shares all arrays.

    A fused gated product needs joined weights and has no effect without them.
    """
    graph, state = nnx.split(model)
    fused = nnx.merge(graph, state)
    fused.transformer.kernels = kernels
    fused.transformer.experts[0].layers.mlp.kernel = kernels.gated_product
    blocks = fused.image_encoder.blocks
    for block in [blocks] if model.config.image_encoder.stacked else blocks:
        block.attention.kernel = kernels.image_attention
    return fused


def with_joined_projections(model: Model, *, consume: bool = False) -> Model:
    """The same model with joined weights, in which answers differ by rounding; shares all other arrays.

    Queries, keys and values come from one product, and so do gate and up. Experts with adapters stay as
    they are, and so do image encoders whose layers are not stacked. The result is for calling: its
    parameters have no published names. Hidden layers of the image encoder are filled up where the config says so.

    Args:
      consume: Whether to delete what has been changed, part by part, so that memory need not hold it twice.
        `model` is then of no use any more.
    """
    graph, state = nnx.split(model)
    joined = nnx.merge(graph, state)
    for expert, config in zip(joined.transformer.experts, model.config.experts, strict=True):
        if config.lora is None:
            _change(expert.layers.attention, "join", consume=consume)
            _change(expert.layers.mlp, "join", consume=consume)
    if model.config.image_encoder.stacked:
        _change(joined.image_encoder.blocks.attention, "join", consume=consume)
        if model.config.optimizations.aligned:
            _change(joined.image_encoder.blocks.mlp, "align", consume=consume)
    return joined


def _change(part: Any, how: Literal["join", "align"], *, consume: bool) -> None:
    before = jax.tree.leaves(nnx.state(part))
    getattr(part, how)()
    if consume:
        after = jax.block_until_ready(jax.tree.leaves(nnx.state(part)))
        for array in before:
            if not any(array is kept for kept in after):
                array.delete()
