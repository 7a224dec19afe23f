"""The batch of queries as a model sees it: numbers only, normalised, tokenised and padded.

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
"""What the model sees for each grey level."""


@pytree
class ModelInput:
    """One batch for `Pi0` or `Pi0Fast`. A pytree; numpy arrays are fine, one copy takes them over.

    A camera may be left out where it is masked in every row: for the flow models this changes
    rounding only, and saves its share of the work.
    """

    images: dict[str, Float32[AnyArray, "b h w 3"] | UInt8[AnyArray, "b h w 3"]]
    """By model camera name; float32 in [-1, 1], or uint8, which the model converts."""
    image_masks: Mapping[str, Bool[AnyArray, " b"] | None]
    """Whether a row has this camera; the same names as `images`. None says that all rows have it: where that
    is said of every camera, padding is known to come last, and attention needs no mask."""
    state: Float32[AnyArray, "b a"]
    """Normalised and zero-padded. Read only by models with `state_as='token'`."""
    tokens: Int32[AnyArray, "b t"]
    token_mask: Bool[AnyArray, "b t"]
    """True on the prompt, then False on padding."""
    token_ar_mask: Int32[AnyArray, "b t"] | None = None
    """pi0-FAST: 1 on tokens that only later ones may see, 0 on the prompt. None means all 0."""
    token_loss_mask: Bool[AnyArray, "b t"] | None = None
    """pi0-FAST in training: True on tokens to be predicted."""

    @property
    def batch(self) -> int:
        """Rows, padding included."""
        return self.tokens.shape[0]


def image_as_float(
    image: Float32[AnyArray, "b h w 3"] | UInt8[AnyArray, "b h w 3"],
) -> Float32[jax.Array, "b h w 3"]:
    """Map grey levels 0..255 to [-1, 1]; float images pass as they are.

    By a table: a compiled division by 255 becomes a product with the reciprocal, which is off by a
    rounding, and rounding to bfloat16 makes that visible in the image tokens.
    """
    if image.dtype == jnp.uint8:
        return jnp.asarray(GREY_LEVELS).at[image].get(mode="promise_in_bounds")
    return jnp.asarray(image)
