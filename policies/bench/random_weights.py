"""Policies with random weights, for measuring without checkpoint and tokenizers."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from simloop.policies.inference.compilation import CompilerOptions
from simloop.policies.inference.model_policy import ModelPolicy, PolicyTokenizers
from simloop.policies.inference.placement import made_on
from simloop.policies.inference.quantization import Kind, Quantization
from simloop.policies.inference.quantized_model import ObservedProduct, quantized, with_products
from simloop.policies.interface import Query
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.parameters import Model, flatten, model_from, random_model
from simloop.policies.models.projections import Product
from simloop.policies.presets import Preset
from simloop.policies.tokenizers.decoded import DecodedActions, OnFailure
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.sentencepiece_model import SentencePieceModel
from simloop.policies.transforms.normalization import identity_stats

ARBITRARY_RANGE = 8.0


class ConstantText(SentencePieceModel):
    """Tokenizer that returns the same number of ids for every text."""

    sha256 = "no tokenizer"

    def __init__(self, pieces: int, tokens: int):
        """Read no file."""
        self.pieces, self._ids = pieces, [2] * tokens

    def encode(self, text: str) -> list[int]:
        """`tokens` ids; none for the newline that closes a prompt."""
        return list(self._ids) if len(text) > 1 else []

    def decode(self, tokens: Sequence[int]) -> str:
        """The empty text."""
        return ""


class Undecodable(FastTokenizer):
    """Action tokenizer that decodes no answer, since random weights generate none that is valid."""

    def __init__(self) -> None:
        """Read no file."""

    def leading(self) -> tuple[int, ...]:
        """No known ids."""
        return ()

    def candidates(self) -> tuple[int, ...]:
        """No known ids."""
        return ()

    def decode(
        self,
        generated: Int[np.ndarray, "_"] | Sequence[int],
        *,
        steps: int,
        size: int,
        on_failure: OnFailure = "undecodable",
    ) -> DecodedActions:
        """The tokens as undecodable."""
        tokens = tuple(int(token) for token in generated)
        return DecodedActions(np.zeros((0, 1)), undecodable=tokens)


def random_policy(
    preset: Preset,
    prompt_tokens: int,
    seed: int = 0,
    *,
    mesh: Mesh | None = None,
    plan: InferencePlan = PLAIN,
    keep_model: bool = True,
    compiler_options: CompilerOptions | None = None,
    kind: Kind | None = None,
) -> ModelPolicy:
    """A policy with random weights.

    Args:
      preset: Model and robot.
      prompt_tokens: Length of every prompt, whatever its text.
      seed: Seed of the weights.
      mesh: As in `ModelPolicy`.
      plan: As in `ModelPolicy`.
      keep_model: As in `ModelPolicy`.
      compiler_options: As in `ModelPolicy`.
      kind: 8-bit type of weights and inputs; None for the preset's dtype.
    """
    text = ConstantText(preset.model.vocab_size, prompt_tokens - 1)  # The first token is BOS.
    tokenizers = PolicyTokenizers(text, None if preset.action_tokens is None else Undecodable())
    stats = {"state": identity_stats(preset.state_size), "actions": identity_stats(preset.action_size)}
    model = made_on(
        mesh, lambda: open_gates(random_model(preset.model, seed, dtype=preset.model.dtype), seed)
    )
    if kind is not None:
        model = in_8_bits(model, kind, plan)
        plan = model.plan
    return ModelPolicy(
        preset,
        preset.spec(),
        model,
        stats,
        tokenizers,
        mesh,
        plan=plan,
        keep_model=keep_model,
        compiler_options=compiler_options,
    )


def in_8_bits(model: Model, kind: Kind, plan: InferencePlan = PLAIN) -> Model:
    """The model in 8 bits with arbitrary input ranges; as fast as with calibrated ones."""
    ranges: dict[str, tuple[float, ...]] = {}

    def record(name: str, matrix: jax.Array, bias: jax.Array | None, input_axes: int) -> Product:
        ranges[name] = (ARBITRARY_RANGE,) * matrix.shape[0]
        return ObservedProduct(name, matrix, bias, input_axes, lambda name, layer, largest: None)

    with_products(model, record)
    return quantized(model, Quantization(kind, ranges), plan)


def open_gates(model: Model, seed: int) -> Model:
    """The model with random weights in its adaptive norms, whose gates are closed at initialization.

    With closed gates, answers would not depend on cameras and prompt, and comparisons of two implementations
    would prove nothing.
    """
    flat = flatten(model)
    for i, (name, leaf) in enumerate(flat.items()):
        if name.endswith("/Dense_0/kernel") and "norm" in name:
            drawn = jax.random.normal(jax.random.key(seed + i), leaf.shape, leaf.dtype)
            flat[name] = drawn * leaf.shape[-2] ** -0.5
    return model_from(model.config, flat)


def random_queries(preset: Preset, cameras: Sequence[str], count: int) -> list[Query]:
    """Queries with random images in the size that env actors render for this preset."""
    rng = np.random.default_rng(0)
    size = preset.model.image_size
    return [
        Query(
            task="",
            instruction="put the bowl on the plate",
            key=int(rng.integers(0, 2**63)),
            state=rng.uniform(-0.5, 0.5, preset.state_size).astype(np.float32),
            images={camera: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for camera in cameras},
        )
        for _ in range(count)
    ]
