"""A policy to measure where neither weights nor tokenizers are at hand: as much work, no meaning."""

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
from simloop.policies.inference.quantized_model import WatchedProduct, quantized, with_products
from simloop.policies.interface import Query
from simloop.policies.models.parameters import Model, flatten, model_from, random_model
from simloop.policies.models.projections import Product
from simloop.policies.presets import Preset
from simloop.policies.tokenizers.decoded import DecodedActions, OnFailure
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.sentencepiece_model import SentencePieceModel
from simloop.policies.transforms.normalization import identity_stats

MADE_UP_RANGE = 8.0


class CountedText(SentencePieceModel):
    """Gives every text the same number of token ids."""

    sha256 = "no tokenizer"

    def __init__(self, pieces: int, tokens: int):
        """No file is read."""
        self.pieces, self._ids = pieces, [2] * tokens

    def encode(self, text: str) -> list[int]:
        """As many ids as there should be, for a text that is more than a line's end."""
        return list(self._ids) if len(text) > 1 else []

    def decode(self, tokens: Sequence[int]) -> str:
        """Nothing."""
        return ""


class Undecodable(FastTokenizer):
    """Finds no actions in tokens, which random weights do not spell anyway."""

    def __init__(self) -> None:
        """No file is read."""

    def leading(self) -> tuple[int, ...]:
        """Nothing is known."""
        return ()

    def candidates(self) -> tuple[int, ...]:
        """Nothing is known."""
        return ()

    def decode(
        self,
        generated: Int[np.ndarray, "_"] | Sequence[int],
        *,
        steps: int,
        size: int,
        on_failure: OnFailure = "undecodable",
    ) -> DecodedActions:
        """The tokens, handed back."""
        tokens = tuple(int(token) for token in generated)
        return DecodedActions(np.zeros((0, 1)), undecodable=tokens)


def random_policy(
    preset: Preset,
    prompt_tokens: int,
    seed: int = 0,
    *,
    mesh: Mesh | None = None,
    keep_model: bool = True,
    compiler_options: CompilerOptions | None = None,
    kind: Kind | None = None,
) -> ModelPolicy:
    """A preset with weights drawn at random, whose prompts have so many tokens; in 8 bits of a `kind`, if
    that is given; the rest as for `ModelPolicy`."""
    text = CountedText(preset.model.vocab_size, prompt_tokens - 1)  # The first is the beginning of sentence.
    words = PolicyTokenizers(text, None if preset.action_tokens is None else Undecodable())
    stats = {"state": identity_stats(preset.state_size), "actions": identity_stats(preset.action_size)}
    model = made_on(mesh, lambda: opened(random_model(preset.model, seed, dtype=preset.model.dtype), seed))
    if kind is not None:
        model = in_8_bits(model, kind)
    return ModelPolicy(
        preset,
        preset.spec(),
        model,
        stats,
        words,
        mesh,
        keep_model=keep_model,
        compiler_options=compiler_options,
    )


def in_8_bits(model: Model, kind: Kind) -> Model:
    """The model in 8 bits as if no input were ever larger than a few: as fast as with measured ranges."""
    ranges: dict[str, tuple[float, ...]] = {}

    def noted(name: str, matrix: jax.Array, bias: jax.Array | None, input_axes: int) -> Product:
        ranges[name] = (MADE_UP_RANGE,) * matrix.shape[0]
        return WatchedProduct(name, matrix, bias, input_axes, lambda name, layer, largest: None)

    with_products(model, noted)
    return quantized(model, Quantization(kind, ranges))


def opened(model: Model, seed: int) -> Model:
    """The model with adaptive norms that let something through, unlike fresh ones, whose gates are closed.

    Answers of a model with closed gates do not depend on cameras and prompt, and would agree with those
    of another way to compute them whatever it did.
    """
    flat = flatten(model)
    for i, (name, leaf) in enumerate(flat.items()):
        if name.endswith("/Dense_0/kernel") and "norm" in name:
            drawn = jax.random.normal(jax.random.key(seed + i), leaf.shape, leaf.dtype)
            flat[name] = drawn * leaf.shape[-2] ** -0.5
    return model_from(model.config, flat)


def queries(preset: Preset, cameras: Sequence[str], count: int) -> list[Query]:
    """Questions with noise for images, in the size that simulators render for this preset."""
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
