"""Low-rank adapters of checkpoints, merged into the weights while they are loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from simloop.policies.checkpoints import ArraySource
from simloop.policies.models.configs import LoraConfig, ModelConfig
from simloop.policies.models.lora import ADAPTER_NAME, adapter_shapes, merge, weight_name

Shape = tuple[int, ...]


def stored_adapters(source: ArraySource, of_model: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of the adapters in the files that fit weights of a model without adapters.

    Args:
      source: Arrays of the checkpoint.
      of_model: Shape of every parameter of the model.
    """
    stored = {array.model_name or array.name: array.shape for array in source.stored}
    found: dict[str, Shape] = {}
    for name, shape in stored.items():
        match = ADAPTER_NAME.fullmatch(name)
        if match is None or name in of_model or match["half"] != "a" or not shape:
            continue
        other, weight = f"{match['stem']}lora_b", of_model.get(weight_name(match["stem"]))
        if weight is not None and (shape, stored.get(other)) == adapter_shapes(weight, shape[-1]):
            found |= {name: shape, other: stored[other]}
    return found


def merged(arrays: Mapping[str, jax.Array], config: ModelConfig) -> dict[str, np.ndarray]:
    """Add adapters to their weights. openpi's models scale them by alpha / rank = 1, which no checkpoint records."""
    lora = LoraConfig(rank=1, alpha=1.0)
    language = dataclasses.replace(config.language, lora=lora)
    expert = config.action_expert and dataclasses.replace(config.action_expert, lora=lora)
    return merge(arrays, dataclasses.replace(config, language=language, action_expert=expert))
