"""Input of a model: a batch of queries, normalized, tokenized and padded.

Axis letters: b batch, h image height, w image width, a padded action and state size, t prompt tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from simloop.policies.models.pytrees import pytree

AnyArray: TypeAlias = jax.Array | np.ndarray

GREY_LEVELS: np.ndarray = np.arange(256, dtype=np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
"""Model input for each grey level."""


@pytree
class ModelInput:
    """One batch for `Pi0` or `Pi0Fast`. A pytree of JAX or numpy arrays.

    A camera that is masked in every row may be absent: for the flow models this changes
    rounding only, and saves its computation.
    """

    images: dict[str, Float32[AnyArray, "b h w 3"] | UInt8[AnyArray, "b h w 3"]]
    """By model camera name; float32 in [-1, 1], or uint8, which the model converts."""
    image_masks: Mapping[str, Bool[AnyArray, " b"] | None]
    """Whether a row has this camera, by the names of `images`; None if all rows have it. If it is None for every
    camera, padding is known to come last, and attention needs no mask."""
    state: Float32[AnyArray, "b a"]
    """Normalized and zero-padded. Read only by models with `state_as='token'`."""
    tokens: Int32[AnyArray, "b t"]
    token_mask: Bool[AnyArray, "b t"]
    """True on the prompt, then False on padding."""
    token_ar_mask: Int32[AnyArray, "b t"] | None = None
    """pi0-FAST: 1 on tokens that earlier tokens may not see, 0 on the prompt. None means all 0."""
    token_loss_mask: Bool[AnyArray, "b t"] | None = None
    """pi0-FAST in training: True on tokens to be predicted."""

    @property
    def batch(self) -> int:
        """Rows, padding included."""
        return self.tokens.shape[0]


def image_as_float(
    image: Float32[AnyArray, "b h w 3"] | UInt8[AnyArray, "b h w 3"],
) -> Float32[jax.Array, "b h w 3"]:
    """Map grey levels 0..255 to [-1, 1]; float images pass unchanged.

    A table is used because a compiled division by 255 becomes a product with the reciprocal, which differs by a
    rounding error that rounding to bfloat16 makes visible in the image tokens.
    """
    if image.dtype == jnp.uint8:
        return jnp.asarray(GREY_LEVELS).at[image].get(mode="promise_in_bounds")
    return jnp.asarray(image)
