"""Construction of models, and their parameters by published name.

Checkpoints of openpi name parameters by '/'-joined paths such as
`PaliGemma/llm/layers/attn/q_einsum_1/w`. The modules here have other names; `published_name`
is the only place that knows both.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.pi0 import Pi0
from simloop.policies.models.pi0_fast import Pi0Fast

Model: TypeAlias = Pi0 | Pi0Fast
FlatParameters: TypeAlias = dict[str, jax.Array | np.ndarray]

# Applied in this order to the path within the model; other names are published unchanged.
_RENAMES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^image_encoder/blocks/(\d+)/", r"image_encoder/Transformer/encoderblock_\1/"),
        (r"^image_encoder/blocks/", "image_encoder/Transformer/encoderblock/"),
        (r"^image_encoder/final_norm/", "image_encoder/Transformer/encoder_norm/"),
        (r"^image_encoder/pooling/norm/", "image_encoder/MAPHead_0/LayerNorm_0/"),
        (r"^image_encoder/pooling/", "image_encoder/MAPHead_0/"),
        (r"^image_encoder/patch/", "image_encoder/embedding/"),
        (r"^image_encoder/positions$", "image_encoder/pos_embedding"),
        (r"^image_encoder/class_token$", "image_encoder/cls"),
        (r"^image_encoder/representation/", "image_encoder/pre_logits/"),
        (r"^(image_encoder/.*)attention_norm/", r"\1LayerNorm_0/"),
        (r"^(image_encoder/.*)mlp_norm/", r"\1LayerNorm_1/"),
        (r"^(image_encoder/.*)attention/", r"\1MultiHeadDotProductAttention_0/"),
        (r"^(image_encoder/.*)mlp/into/", r"\1MlpBlock_0/Dense_0/"),
        (r"^(image_encoder/.*)mlp/out/", r"\1MlpBlock_0/Dense_1/"),
        (r"^image_encoder/", "PaliGemma/img/"),
        (r"^transformer/token_table$", "PaliGemma/llm/embedder/input_embedding"),
        # Experts are distinguished by a suffix on the module: none on the first, _1 on the second.
        (r"^transformer/experts/0/", "PaliGemma/llm//"),
        (r"^transformer/experts/(\d+)/", r"PaliGemma/llm/_\1/"),
        (r"llm/(_\d+)?/final_norm/", r"llm/final_norm\1/"),
        (r"llm/(_\d+)?/layers/pre_attention_norm/", r"llm/layers/pre_attention_norm\1/"),
        (r"llm/(_\d+)?/layers/pre_mlp_norm/", r"llm/layers/pre_ffw_norm\1/"),
        (r"llm/(_\d+)?/layers/attention/out/", r"llm/layers/attn/attn_vec_einsum\1/"),
        (r"llm/(_\d+)?/layers/attention/(q|kv|qkv)/", r"llm/layers/attn/\2_einsum\1/"),
        (r"llm/(_\d+)?/layers/mlp/gating/w", r"llm/layers/mlp\1/gating_einsum"),
        (r"llm/(_\d+)?/layers/mlp/linear/w", r"llm/layers/mlp\1/linear"),
        (r"llm/(_\d+)?/layers/mlp/gating/", r"llm/layers/mlp\1/gating_einsum_"),
        (r"llm/(_\d+)?/layers/mlp/linear/", r"llm/layers/mlp\1/linear_"),
        (r"/modulation/", "/Dense_0/"),
    )
]


def published_name(path: str) -> str:
    """Convert the path of a parameter within the model to its name in published checkpoints.

    >>> published_name("transformer/experts/1/layers/attention/q/w")
    'PaliGemma/llm/layers/attn/q_einsum_1/w'
    """
    for pattern, replacement in _RENAMES:
        path = pattern.sub(replacement, path)
    return path


def model_class(config: ModelConfig) -> type[Pi0] | type[Pi0Fast]:
    """Return the model class of a config."""
    return Pi0Fast if config.action_expert is None else Pi0


@functools.lru_cache(maxsize=16)  # Tracing the initializers takes about half a second of processor time.
def abstract_model(config: ModelConfig, plan: InferencePlan = PLAIN) -> Any:
    """Build a model with shapes in place of arrays; nothing is allocated. Do not change it: it is shared."""
    return nnx.eval_shape(lambda: model_class(config)(config, rngs=nnx.Rngs(0), plan=plan))


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by published name."""
    _, state = nnx.split(abstract_model(config))
    return {name: leaf.shape for name, leaf in named_leaves(state)}


def flatten(model: nnx.Module) -> FlatParameters:
    """Return every parameter by published name; arrays are shared, not copied."""
    return dict(named_leaves(nnx.state(model, nnx.Param)))


def random_model(config: ModelConfig, seed: int, *, dtype: DTypeLike = "float32") -> Model:
    """Create a model with random weights from the published initializers.

    Weights are drawn in float32 and cast a gigabyte at a time, so that memory has to hold the full size in
    bfloat16 only.
    """
    graph, state = nnx.split(abstract_model(config))
    leaves, structure = jax.tree.flatten(state)
    drawn: list[jax.Array] = []
    while len(drawn) < len(leaves):
        stop = _end_of_group([leaf.size for leaf in leaves], start=len(drawn))
        drawn += _initializer(config, jnp.dtype(dtype), len(drawn), stop)(jax.random.key(seed))
        jax.block_until_ready(drawn)
    return nnx.merge(graph, jax.tree.unflatten(structure, drawn))


ELEMENTS_DRAWN_AT_ONCE = 2**28
WORTH_OPTIMIZING = 2**24
"""Elements from which optimizing the random generator pays for the seconds that XLA takes."""


def _end_of_group(sizes: list[int], *, start: int) -> int:
    """Return the end of the longest run of leaves from `start` that is drawn at once, of at least one."""
    stop, total = start + 1, sizes[start]
    while stop < len(sizes) and total + sizes[stop] <= ELEMENTS_DRAWN_AT_ONCE:
        total += sizes[stop]
        stop += 1
    return stop


@functools.cache
def _initializer(
    config: ModelConfig, dtype: np.dtype, start: int, stop: int
) -> Callable[[jax.Array], list[jax.Array]]:
    def initialize(key: jax.Array) -> list[jax.Array]:
        state = nnx.state(model_class(config)(config, rngs=nnx.Rngs(key)), nnx.Param)
        return [leaf.astype(dtype) for leaf in jax.tree.leaves(state)[start:stop]]

    _, state = nnx.split(abstract_model(config))
    elements = sum(leaf.size for leaf in jax.tree.leaves(state)[start:stop])
    if elements > WORTH_OPTIMIZING:
        return jax.jit(initialize)
    return jax.jit(initialize, compiler_options={"xla_backend_optimization_level": 0})


def model_from(
    config: ModelConfig,
    flat: Mapping[str, Any],
    *,
    dtype: DTypeLike | None = None,
    plan: InferencePlan = PLAIN,
) -> Model:
    """Create a model from its parameters.

    Args:
      config: Of the model.
      flat: Arrays by published name.
      dtype: Dtype of the parameters; None keeps that of the arrays. Published inference stores all of
        them as bfloat16.
      plan: Layout of the parameters.

    Raises:
      ValueError: If names are missing or left over, or a shape is wrong.
    """
    return restored(abstract_model(config, plan), flat, dtype=dtype)


def restored(
    abstract: nnx.Module, flat: Mapping[str, Any], *, at: str = "", dtype: DTypeLike | None = None
) -> Any:
    """Create a module like `abstract` from arrays.

    Args:
      abstract: Module with shapes in place of arrays, as `nnx.eval_shape` returns it.
      flat: Arrays by published name.
      at: Path of the module within the model, if it is a part of one.
      dtype: Dtype of the parameters; None keeps that of the arrays.

    Raises:
      ValueError: If names are missing or left over, or a shape is wrong.
    """
    graph, state = nnx.split(abstract)
    filled = assigned(state, flat, at=at)
    return nnx.merge(graph, jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), filled))


def assigned(state: nnx.State, flat: Mapping[str, Any], *, at: str = "") -> nnx.State:
    """Return a state of the same structure whose leaves are the named arrays; see `restored`.

    Raises:
      ValueError: If names are missing or left over, or a shape is wrong.
    """
    named = named_leaves(state, at=at)
    missing = sorted(name for name, _ in named if name not in flat)
    unexpected = sorted(set(flat) - {name for name, _ in named})
    if missing or unexpected:
        raise ValueError(
            f"The model has {len(named)} parameters. Missing: {_few(missing)}; left over: {_few(unexpected)}. "
            "Pick the config that the checkpoint was trained with."
        )
    for name, leaf in named:
        if tuple(flat[name].shape) != tuple(leaf.shape):
            raise ValueError(
                f"{name} has shape {tuple(leaf.shape)} in this model; got {tuple(flat[name].shape)}. "
                "Pick the config that the checkpoint was trained with."
            )
    return jax.tree.unflatten(jax.tree.structure(state), [flat[name] for name, _ in named])


def named_leaves(state: Any, *, at: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of a state (or of gradients) with their published names, in the order of the state."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    start = f"{at}/" if at else ""
    return [(published_name(start + _path(keys)), leaf) for keys, leaf in leaves]


def _path(keys: tuple) -> str:
    parts = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in keys]
    if parts[-1] in ("value", "raw_value"):  # The leaf of an nnx.Variable.
        parts.pop()
    return "/".join(parts)


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "none"
