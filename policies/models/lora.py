"""Low-rank adapters: application, merging into the weights, and the parameters frozen beside them.

Published behaviour that a caller may not expect:

* `lora_a` replaces the last axis of the weight by the rank, `lora_b` the second to last. For the
  output projection of attention, [heads, head_dim, width], this sums over heads *before* the second
  half: the adapter is the product of two sums over heads, not one adapter per head.
* `alpha` and `rslora` scale the adapters of the attention projections; those of the feed-forward
  part are added as they are.
* Both halves start random, so a fresh adapter changes the model.
* The image encoder and the action projections stay trainable (openpi issue 744).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from simloop.policies.models.configs import ModelConfig

RANK_LETTER = "z"


def adapter_shapes(shape: tuple[int, ...], rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of `lora_a` and `lora_b` for a weight of this shape."""
    return (*shape[:-1], rank), (*shape[:-2], rank, shape[-1])


def adapt(
    equation: str, x: Float[Array, "..."], a: Float[Array, "..."], b: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Apply both halves of an adapter, without scaling."""
    first, second = adapter_equations(equation)
    return jnp.einsum(second, jnp.einsum(first, x, a), b)


def adapter_equations(equation: str) -> tuple[str, str]:
    """Derive the equations of both halves from an einsum `x,w->y`.

    >>> adapter_equations("btd,ndh->btnh")
    ('btd,ndz->btnz', 'btnz,nzh->btnh')
    >>> adapter_equations("btnh,nhd->btd")
    ('btnh,nhz->btz', 'btz,nzd->btd')
    """
    x, w, y = re.fullmatch(r"(\w+),(\w+)->(\w+)", equation).groups()  # type: ignore[union-attr]
    middle = y.replace(w[-1], RANK_LETTER)
    return (
        f"{x},{w[:-1]}{RANK_LETTER}->{middle}",
        f"{middle},{w[:-2]}{RANK_LETTER}{w[-1]}->{y}",
    )


ADAPTER_NAME = re.compile(r"(?P<stem>.*[/_])lora_(?P<half>[ab])")


def merge(flat: Mapping[str, np.ndarray | jax.Array], config: ModelConfig) -> dict[str, np.ndarray]:
    """Add every adapter to its weight and drop it, which saves its cost at inference.

    Sums are computed in float32 and returned in the dtype of the weight; merging bfloat16 weights
    therefore rounds once.

    Args:
      flat: Parameters by their published names.
      config: The model with its adapters; `without_adapters` is the config of the result.

    Raises:
      KeyError: If an adapter lacks its other half or its weight.
    """
    merged = {name: np.asarray(value) for name, value in flat.items() if not ADAPTER_NAME.fullmatch(name)}
    for name in flat:
        match = ADAPTER_NAME.fullmatch(name)
        if match is None or match["half"] == "b":
            continue
        stem = match["stem"]
        weight = weight_name(stem)
        delta = _adapter_as_weight(
            np.asarray(flat[name]).astype(np.float32),
            np.asarray(flat[f"{stem}lora_b"]).astype(np.float32),
            sums_heads="attn_vec_einsum" in stem,
        )
        before = merged[weight]
        scaled = delta * np.float32(_scaling(stem, config))
        merged[weight] = (before.astype(np.float32) + scaled).astype(before.dtype)
    return merged


def weight_name(stem: str) -> str:
    """Name of the weight whose adapters begin with a stem, such as `.../q_einsum/` of `.../q_einsum/lora_a`."""
    return stem + "w" if stem.endswith("/") else stem.removesuffix("_")


def _adapter_as_weight(a: np.ndarray, b: np.ndarray, *, sums_heads: bool) -> np.ndarray:
    if sums_heads:  # a [l, n, h, z], b [l, n, z, d]
        return np.einsum("lnhz,lzd->lnhd", a, b.sum(axis=1))
    return np.matmul(a, b)


def _scaling(stem: str, config: ModelConfig) -> float:
    if "/mlp" in stem:
        return 1.0
    expert = config.experts[1 if re.search(r"_1/$", stem) else 0]
    if expert.lora is None:
        raise ValueError(f"{stem}lora_a has no place in this model: its config has no adapters there.")
    return expert.lora.scaling


def is_frozen(name: str, config: ModelConfig) -> bool:
    """Whether fine-tuning with adapters freezes this parameter.

    Args:
      name: A published parameter name, '/'-joined.
      config: Determines which experts have adapters; without any, nothing is frozen.
    """
    if "lora" in name or "llm" not in name:
        return False
    in_action_expert = re.search(r"llm.*_1", name) is not None
    language_adapted = config.language.lora is not None
    expert_adapted = config.action_expert is not None and config.action_expert.lora is not None
    if language_adapted:
        return expert_adapted or config.action_expert is None or not in_action_expert
    return expert_adapted and in_action_expert


def without_adapters(config: ModelConfig) -> ModelConfig:
    """Return the config of the model after `merge`."""
    language = dataclasses.replace(config.language, lora=None)
    expert = config.action_expert and dataclasses.replace(config.action_expert, lora=None)
    return dataclasses.replace(config, language=language, action_expert=expert)
