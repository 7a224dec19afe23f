"""Embedding of the prefix: the tokens of all cameras, then the prompt.

Axis letters: b batch, t prompt tokens, i tokens of one image, p all prefix tokens, d width.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.model_input import ModelInput, image_as_float
from simloop.policies.models.siglip import ImageEncoder
from simloop.policies.models.transformer import Transformer


class Prefix(NamedTuple):
    """Embedded cameras and prompt."""

    tokens: Float[Array, "b p d"]
    valid: Bool[Array, "b p"]
    """False on masked cameras and padding."""
    starts_block: Bool[Array, "b p"]
    """As `attention.block_mask` takes it: False on cameras, the autoregressive mask on the text."""
    lengths: Int32[Array, " b"] | None = None
    """Number of valid tokens per row, if they are known to come first and to see each other."""


def embed_prefix(
    config: ModelConfig, image_encoder: ImageEncoder, transformer: Transformer, batch: ModelInput
) -> Prefix:
    """Encode all cameras in one call and join their tokens with those of the prompt, in the order of the model.

    A camera that is absent from the batch has no tokens.

    Raises:
      ValueError: If the batch has an unknown camera, or images without a mask.
    """
    unknown = set(batch.images) - set(config.cameras)
    if unknown or set(batch.images) != set(batch.image_masks):
        raise ValueError(
            f"The model takes images and masks for cameras {', '.join(config.cameras)}; got images for "
            f"{', '.join(batch.images) or 'none'} and masks for {', '.join(batch.image_masks) or 'none'}."
        )
    cameras = [camera for camera in config.cameras if camera in batch.images]
    parts, valid = [], []
    if cameras:
        images = jnp.concatenate([image_as_float(batch.images[camera]) for camera in cameras])
        for camera, tokens in zip(cameras, jnp.split(image_encoder(images).out, len(cameras)), strict=True):
            parts.append(tokens)
            mask = batch.image_masks[camera]
            mask = jnp.ones(tokens.shape[:1], jnp.bool_) if mask is None else jnp.asarray(mask)
            valid.append(jnp.broadcast_to(mask[:, None], tokens.shape[:2]))
    parts.append(transformer.embed(jnp.asarray(batch.tokens)))
    valid.append(jnp.asarray(batch.token_mask))

    tokens = jnp.concatenate(parts, axis=1)
    text_starts = _text_starts(batch)
    on_images = jnp.zeros((tokens.shape[0], tokens.shape[1] - text_starts.shape[1]), jnp.bool_)
    is_valid = jnp.concatenate(valid, axis=1)
    lengths = None
    if batch.token_ar_mask is None and all(batch.image_masks[camera] is None for camera in cameras):
        lengths = is_valid.sum(axis=1, dtype=jnp.int32)
    return Prefix(tokens, is_valid, jnp.concatenate([on_images, text_starts], axis=1), lengths)


def positions_of_valid(valid: Bool[Array, "b p"]) -> Int32[Array, "b p"]:
    """Count valid tokens from 0; an invalid one repeats the position before it, at first −1."""
    return jnp.cumsum(valid.astype(jnp.int32), axis=1) - 1


def _text_starts(batch: ModelInput) -> jax.Array:
    if batch.token_ar_mask is None:
        return jnp.zeros(batch.tokens.shape, jnp.bool_)
    return jnp.asarray(batch.token_ar_mask).astype(jnp.bool_)
