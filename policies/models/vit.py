"""Vision transformer for classification (arXiv:2010.11929), kept for parity with the reference.

It differs from `siglip` around the blocks: the class token has a position too, and the
output may be that of the class token, of the mean of all tokens, or of every token.

Axis letters: n images, t tokens (with the class token, if there is one), d width, o output width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float32

from simloop.policies.models.configs import ImageEncoderConfig
from simloop.policies.models.experts import stacked
from simloop.policies.models.norms import LayerNorm
from simloop.policies.models.parameters import restored
from simloop.policies.models.projections import Linear
from simloop.policies.models.siglip import EncoderBlock, PatchConvolution

POSITION_STD = 0.02  # Of initial position embeddings, as in BERT.


@dataclass(frozen=True)
class VitConfig:
    """Config of a classifier."""

    blocks: ImageEncoderConfig
    """Width, depth, heads and patches; its options beyond sizes are not used."""
    classifier: Literal["token", "gap", "unpooled", "token_unpooled"] = "token"
    """Input of the head: the class token, the mean of all tokens, or every token, without or with a
    class token."""
    classes: int | None = None
    """Width of the output; None omits the head."""
    representation_width: int | None = None
    """Width of a tanh layer before the head."""

    @property
    def has_class_token(self) -> bool:
        """Whether a learned token precedes the patches."""
        return self.classifier in ("token", "token_unpooled")


class VisionTransformer(nnx.Module):
    """Classifier from images to class scores, in float32 and without dropout."""

    def __init__(self, config: VitConfig, *, image_hw: tuple[int, int], rngs: nnx.Rngs):
        self.config = config
        blocks = config.blocks
        width, patch = blocks.width, blocks.patch_size
        tokens = (image_hw[0] // patch) * (image_hw[1] // patch) + config.has_class_token
        self.patch = PatchConvolution(blocks, rngs=rngs)
        if config.has_class_token:
            self.class_token = nnx.Param(jnp.zeros((1, 1, width), jnp.float32))
        positions = nnx.initializers.normal(POSITION_STD)(rngs.params(), (1, tokens, width), jnp.float32)
        self.positions = nnx.Param(positions)
        self.blocks = stacked(lambda rngs: EncoderBlock(blocks, rngs=rngs), blocks.depth, rngs)
        self.final_norm = LayerNorm(width, rngs=rngs)
        if config.representation_width is not None:
            self.representation = Linear(width, config.representation_width, rngs=rngs)
            width = config.representation_width
        if config.classes is not None:
            zeros = nnx.initializers.zeros_init()
            self.head = Linear(width, config.classes, rngs=rngs, kernel_init=zeros)

    def __call__(
        self, images: Float32[Array, "n _y _x 3"]
    ) -> Float32[Array, "n o"] | Float32[Array, "n t o"]:
        """Score images of the size that the classifier was built for."""
        stem = self.patch(images)
        x = stem.reshape(stem.shape[0], -1, stem.shape[-1])
        if self.config.has_class_token:
            token = jnp.broadcast_to(self.class_token[...], (x.shape[0], 1, x.shape[2]))
            x = jnp.concatenate([token, x], axis=1)
        x = self.final_norm(self._run_blocks(x + jnp.broadcast_to(self.positions[...], x.shape)))
        if self.config.classifier == "token":
            x = x[:, 0]
        elif self.config.classifier == "gap":
            x = x.mean(axis=1)
        if self.config.representation_width is not None:
            x = jnp.tanh(self.representation(x))
        return x if self.config.classes is None else self.head(x)

    def _run_blocks(self, x: Float32[Array, "n t d"]) -> Float32[Array, "n t d"]:
        graph, states = nnx.split(self.blocks)
        return jax.lax.scan(lambda x, state: (nnx.merge(graph, state)(x), None), x, states)[0]


def vit_from(config: VitConfig, flat: Mapping[str, Any], *, image_hw: tuple[int, int]) -> VisionTransformer:
    """Create a classifier from its parameters by published name.

    Raises:
      ValueError: If names are missing or left over, or a shape is wrong.
    """
    abstract = nnx.eval_shape(lambda: VisionTransformer(config, image_hw=image_hw, rngs=nnx.Rngs(0)))
    return restored(abstract, {_siglip_name(name): array for name, array in flat.items()}, at="image_encoder")


def _siglip_name(name: str) -> str:
    """Convert a name to that in published SigLIP encoders, which differs for the positions only."""
    return "PaliGemma/img/" + name.replace("Transformer/posembed_input/pos_embedding", "pos_embedding")
