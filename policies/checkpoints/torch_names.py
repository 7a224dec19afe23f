"""Names and layouts of parameters in PyTorch ports of the models.

openpi's PyTorch conversion and LeRobot's `pi0`, `pi05` and `pi0_fast` share one set of names, those
of Hugging Face's PaliGemma and Gemma modules. A row of the table below pairs an array of the model with the tensors
that contain it. In PyTorch, layers are separate tensors, dense weights are [out, in] and heads are flattened into one
axis; in simloop's models, layers are stacked and dense weights are [in, out].

Axis letters: y x patch height and width, c colour, t image tokens, d model width, m the other width of
a dense layer, n query heads, k key-value heads, h head width, u an axis of length one, v vocabulary.
A group in parentheses is one axis of the tensor, the last letter running fastest.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from simloop.policies.checkpoints.array_source import CheckpointError, Shape

VLM = "paligemma_with_expert.paligemma."
LANGUAGE = VLM + "model.language_model."
EXPERT = "paligemma_with_expert.gemma_expert.model."
VISION = VLM + "model.vision_tower.vision_model."

TOKEN_TABLE = LANGUAGE + "embed_tokens.weight"
LANGUAGE_HEAD = VLM + "lm_head.weight"
"""Tied to the token table. Writers that store tied tensors once usually keep this name."""
EXPERT_HEAD = "paligemma_with_expert.gemma_expert.lm_head.weight"
"""Output head of the action expert's Gemma module, neither trained nor used."""

BUFFERED_STATISTICS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
"""Statistics that LeRobot stored among the weights before 0.4."""


@dataclass(frozen=True)
class Layout:
    """Axes of an array of the model and of its tensor, for example `n d h` and `(n h) d`."""

    model: str
    torch: str

    @property
    def rank(self) -> int:
        """Number of axes of the model's array without stacked ones."""
        return len(self.model.split())

    def torch_shape(self, shape: Shape) -> Shape:
        """Shape of the tensor for an array of this shape."""
        size = dict(zip(self.model.split(), shape, strict=True))
        return tuple(math.prod(size[axis] for axis in group) for group in self._groups())

    def to_model(self, tensor: np.ndarray, shape: Shape) -> np.ndarray:
        """View a tensor as the model's array of this shape."""
        size = dict(zip(self.model.split(), shape, strict=True))
        axes = [axis for group in self._groups() for axis in group]
        apart = tensor.reshape([size[axis] for axis in axes])
        return apart.transpose([axes.index(axis) for axis in self.model.split()])

    def _groups(self) -> list[list[str]]:
        return [group.strip("()").split() for group in re.findall(r"\([^)]*\)|\w", self.torch)]


@dataclass(frozen=True)
class Rule:
    """The tensors that form one array of the model."""

    model: str
    torch: tuple[str, ...]
    """One name, or one for each entry of a stacked axis; `{layer}` is the number of the layer."""
    layout: Layout

    def pieces(self, shape: Shape) -> Iterator[tuple[tuple[int, ...], str, Shape]]:
        """Index in the model's array, name and shape of every tensor."""
        layered, split = "{layer}" in self.torch[0], len(self.torch) > 1
        stacked = layered + split
        if len(shape) != stacked + self.layout.rank or (split and shape[layered] != len(self.torch)):
            raise CheckpointError(
                f"{self.model} is stored as {len(self.torch)} x [{self.layout.torch}] per layer in PyTorch "
                f"checkpoints, which cannot make an array of shape {shape}."
            )
        piece = shape[stacked:]
        for layer in range(shape[0]) if layered else (None,):
            for index, name in enumerate(self.torch):
                place = (() if layer is None else (layer,)) + ((index,) if split else ())
                yield place, name if layer is None else name.format(layer=layer), piece


def _rules() -> Iterator[Rule]:
    def rule(model: str, torch: str | tuple[str, ...], layout: str) -> Rule:
        names = (torch,) if isinstance(torch, str) else torch
        here, there = layout.split(" <- ") if " <- " in layout else (layout, layout)
        return Rule(model, names, Layout(here, there))

    def dense(model: str, torch: str) -> Iterator[Rule]:
        yield rule(f"{model}/kernel", f"{torch}.weight", "d m <- m d")
        yield rule(f"{model}/bias", f"{torch}.bias", "m")

    def layer_norm(model: str, torch: str) -> Iterator[Rule]:
        yield rule(f"{model}/scale", f"{torch}.weight", "d")
        yield rule(f"{model}/bias", f"{torch}.bias", "d")

    image, block = "PaliGemma/img", VISION + "encoder.layers.{layer}."
    yield rule(
        f"{image}/embedding/kernel", VISION + "embeddings.patch_embedding.weight", "y x c d <- d c y x"
    )
    yield rule(f"{image}/embedding/bias", VISION + "embeddings.patch_embedding.bias", "d")
    yield rule(f"{image}/pos_embedding", VISION + "embeddings.position_embedding.weight", "u t d <- (u t) d")
    yield from layer_norm(f"{image}/Transformer/encoder_norm", VISION + "post_layernorm")
    yield from dense(f"{image}/head", VLM + "model.multi_modal_projector.linear")
    here = f"{image}/Transformer/encoderblock"
    yield from layer_norm(f"{here}/LayerNorm_0", block + "layer_norm1")
    yield from layer_norm(f"{here}/LayerNorm_1", block + "layer_norm2")
    yield from dense(f"{here}/MlpBlock_0/Dense_0", block + "mlp.fc1")
    yield from dense(f"{here}/MlpBlock_0/Dense_1", block + "mlp.fc2")
    here = f"{here}/MultiHeadDotProductAttention_0"
    for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        yield rule(f"{here}/{ours}/kernel", f"{block}self_attn.{theirs}.weight", "d n h <- (n h) d")
        yield rule(f"{here}/{ours}/bias", f"{block}self_attn.{theirs}.bias", "n h <- (n h)")
    yield rule(f"{here}/out/kernel", block + "self_attn.out_proj.weight", "n h d <- d (n h)")
    yield rule(f"{here}/out/bias", block + "self_attn.out_proj.bias", "d")

    language = "PaliGemma/llm"
    yield rule(f"{language}/embedder/input_embedding", TOKEN_TABLE, "v d")
    for suffix, module in (("", LANGUAGE), ("_1", EXPERT)):
        layer, attention = module + "layers.{layer}.", module + "layers.{layer}.self_attn."
        layers, mlp = f"{language}/layers", f"{language}/layers/mlp{suffix}"
        yield rule(f"{layers}/attn/q_einsum{suffix}/w", attention + "q_proj.weight", "n d h <- (n h) d")
        keys_values = (attention + "k_proj.weight", attention + "v_proj.weight")
        yield rule(f"{layers}/attn/kv_einsum{suffix}/w", keys_values, "k d h <- (k h) d")
        yield rule(
            f"{layers}/attn/attn_vec_einsum{suffix}/w", attention + "o_proj.weight", "n h d <- d (n h)"
        )
        gate_up = (layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight")
        yield rule(f"{mlp}/gating_einsum", gate_up, "d m <- m d")
        yield rule(f"{mlp}/linear", layer + "mlp.down_proj.weight", "m d <- d m")
        for ours, theirs in (
            (f"{layers}/pre_attention_norm{suffix}", layer + "input_layernorm"),
            (f"{layers}/pre_ffw_norm{suffix}", layer + "post_attention_layernorm"),
            (f"{language}/final_norm{suffix}", module + "norm"),
        ):
            yield rule(f"{ours}/scale", f"{theirs}.weight", "d")
            yield from dense(f"{ours}/Dense_0", f"{theirs}.dense")  # Adaptive norms (pi0.5) only.

    projections = ("action_in_proj", "action_out_proj", "state_proj")
    for name in (*projections, "action_time_mlp_in", "action_time_mlp_out", "time_mlp_in", "time_mlp_out"):
        yield from dense(name, name)


RULES: Mapping[str, Rule] = {rule.model: rule for rule in _rules()}
"""By the model's name."""


@functools.cache
def _owners() -> dict[str, str]:
    return {name: rule.model for rule in RULES.values() for name in rule.torch}


def owner(canonical: str) -> str | None:
    """The model's array that a tensor belongs to; None if there is none."""
    return _owners().get(re.sub(r"\blayers\.\d+\.", "layers.{layer}.", canonical))


_RENAMED = (
    (re.compile(r"^model\.(?=paligemma_with_expert\.|[a-z_]+_(proj|mlp_in|mlp_out)\.)"), ""),
    # PaliGemma's modules were nested differently before transformers 4.52.
    (re.compile(r"\.paligemma\.language_model\.model\."), ".paligemma.model.language_model."),
    (re.compile(r"\.paligemma\.language_model\.lm_head\."), ".paligemma.lm_head."),
    (re.compile(r"\.paligemma\.(?=vision_tower\.|multi_modal_projector\.)"), ".paligemma.model."),
)


def canonical_name(name: str) -> str:
    """The name of a tensor in this table.

    LeRobot prefixes every name with `model.`, and older files nest PaliGemma's modules in another order (lerobot pull
    request 1415).
    """
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name
