"""Random crops, rotations and colours for training images, drawn as in the published training.

The published training uses the package augmax; this module draws the same numbers from the same keys, with the
same deviations from the settings there: colours change in half of the images only, hue changes although it is not
configured, and saturation does not change although it is. Wrist cameras keep their geometry, since it shows where
the hand is.

Axis letters: b batch, h image height, w image width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float32


@dataclass(frozen=True)
class Augmentation:
    """Strength of the changes."""

    crop: float = 0.95
    """Fraction of height and width that is kept and scaled back to the full size."""
    rotation_deg: float = 5.0
    """Largest angle in degrees, in both directions. Corners from outside the image are black."""
    brightness: float = 0.3
    contrast: float = 0.4
    hue_turns: float = 0.1
    colour_probability: float = 0.5


PUBLISHED = Augmentation()

_COLOUR_KEYS = 5
"""Brightness, contrast, hue, saturation (without effect), and an unused one."""


def augment(
    images: Mapping[str, Float32[Array, "b h w 3"]], key: Array, settings: Augmentation = PUBLISHED
) -> dict[str, Float32[Array, "b h w 3"]]:
    """Augment images in [-1, 1], by model camera name.

    All cameras of a row draw from one key, so wrist cameras get equal colours, and other ones than the remaining
    cameras. Results may leave [-1, 1] by rounding.
    """
    changed = {}
    for name, batch in images.items():
        one = _wrist_image if "wrist" in name else _scene_image
        keys = jax.random.split(key, batch.shape[0])
        changed[name] = jax.vmap(one, in_axes=(0, 0, None))(batch / 2.0 + 0.5, keys, settings) * 2.0 - 1.0
    return changed


def _wrist_image(
    image: Float32[Array, "h w 3"], key: Array, settings: Augmentation
) -> Float32[Array, "h w 3"]:
    (colour_key,) = jax.random.split(key, 1)
    return _with_colours_changed(image, colour_key, settings)


def _scene_image(
    image: Float32[Array, "h w 3"], key: Array, settings: Augmentation
) -> Float32[Array, "h w 3"]:
    geometry_key, colour_key = jax.random.split(key)
    return _with_colours_changed(_cropped_and_rotated(image, geometry_key, settings), colour_key, settings)


def _cropped_and_rotated(
    image: Float32[Array, "h w 3"], key: Array, settings: Augmentation
) -> Float32[Array, "h w 3"]:
    """Crop, scale back and rotate in one bilinear resampling; black outside."""
    crop_key, _, rotation_key = jax.random.split(key, 3)
    h, w = image.shape[:2]
    crop_h, crop_w = int(h * settings.crop), int(w * settings.crop)
    reach = jnp.array([(h - crop_h) / 2, (w - crop_w) / 2], jnp.float32)
    centre_y, centre_x = jax.random.uniform(crop_key, (2,), jnp.float32, -reach, reach)
    limit_rad = math.radians(settings.rotation_deg)
    angle = jax.random.uniform(rotation_key, (), jnp.float32, -limit_rad, limit_rad)

    # Source coordinates of each pixel, relative to the centre of the image.
    y, x = jnp.meshgrid(_centred(h), _centred(w), indexing="ij")
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    from_y = (cos * y + sin * x) * (crop_h / h) + centre_y + (h - 1) / 2
    from_x = (cos * x - sin * y) * (crop_w / w) + centre_x + (w - 1) / 2
    resample = jax.vmap(lambda channel: map_coordinates(channel, [from_y, from_x], order=1, cval=0.0), -1, -1)
    return resample(image)


def _centred(size: int) -> Float32[Array, "{size}"]:
    return jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2


def _with_colours_changed(
    image: Float32[Array, "h w 3"], key: Array, settings: Augmentation
) -> Float32[Array, "h w 3"]:
    (key,) = jax.random.split(key, 1)
    brightness_key, contrast_key, hue_key, *_ = jax.random.split(key, _COLOUR_KEYS)

    def amount(key: Array, limit: float) -> Float32[Array, ""]:
        return jax.random.uniform(key, (), jnp.float32, -limit, limit)

    hue, saturation, value = _hsv_from_rgb(image)
    value = _brighter(value, amount(brightness_key, settings.brightness))
    value = _more_contrast(value, amount(contrast_key, settings.contrast))
    hue = hue + amount(hue_key, settings.hue_turns)
    changed = jax.random.bernoulli(key, settings.colour_probability)
    return jnp.where(changed, _rgb_from_hsv(hue, saturation, value), image)


def _brighter(value: Float32[Array, "h w"], by: Float32[Array, ""]) -> Float32[Array, "h w"]:
    """Shift towards white for positive amounts, towards black for negative ones."""
    return jnp.where(by < 0.0, value * (1.0 + by), value * (1.0 - by) + by)


def _more_contrast(value: Float32[Array, "h w"], by: Float32[Array, ""]) -> Float32[Array, "h w"]:
    """Apply a steeper (or flatter) line through mid-grey, bent at both ends to keep 0 at 0 and 1 at 1."""
    slope = jnp.tan((by + 1.0) * (math.pi / 4))
    bend = slope / (2.0 * (1.0 + slope))
    dark, bright = value / slope, value / slope + 1.0 - 1.0 / slope
    middle = slope * (value - 0.5) + 0.5
    return jnp.where(value < bend, dark, jnp.where(value > 1.0 - bend, bright, middle))


def _hsv_from_rgb(
    image: Float32[Array, "h w 3"],
) -> tuple[Float32[Array, "h w"], Float32[Array, "h w"], Float32[Array, "h w"]]:
    """Hue in turns (possibly below 0), saturation and value."""
    value = image.max(axis=-1)
    chroma = value - image.min(axis=-1)
    strongest = image.argmax(axis=-1)
    # Differences of the two channels after the strongest one, in the order red, green, blue, red, green.
    following = jnp.stack(
        [image[..., 1] - image[..., 2], image[..., 2] - image[..., 0], image[..., 0] - image[..., 1]]
    )
    difference = jnp.take_along_axis(following, strongest[None], axis=0)[0]
    grey, black = chroma == 0.0, value == 0.0
    sixths = 2.0 * strongest.astype(jnp.float32) + difference / jnp.where(grey, 1.0, chroma)
    hue = jnp.where(grey, 0.0, sixths / 6.0)
    saturation = jnp.where(black, 0.0, chroma / jnp.where(black, 1.0, value))
    return hue, saturation, value


def _rgb_from_hsv(
    hue: Float32[Array, "h w"], saturation: Float32[Array, "h w"], value: Float32[Array, "h w"]
) -> Float32[Array, "h w 3"]:
    """Inverse of `_hsv_from_rgb`, for any hue in turns. Formula: A. R. Smith, Color gamut transform pairs (1978)."""

    def channel(offset: float) -> Float32[Array, "h w"]:
        position = jnp.mod(offset + hue * 6.0, 6.0)
        return value - value * saturation * jnp.clip(jnp.minimum(position, 4.0 - position), 0.0, 1.0)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)
