"""Resize images, pad vectors, and convert between delta and absolute actions, on the host without JAX.

Images are resized as the trainer of the weights resized them (`Resizing`); `device_images` differs from the antialiased
resizing by at most one grey level.

Axis letters: h w image height and width, H W target height and width, t steps, d entries, s state size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

Resizing = Literal["antialiased", "bilinear"]
"""`antialiased`: Pillow's bilinear filter, as in openpi. `bilinear`: four neighbours of each point, whatever the scale,
as in LeRobot; on fine patterns the two differ by 30 grey levels."""
RESIZINGS: tuple[Resizing, ...] = get_args(Resizing)


FLOAT_MARGIN = 0.05
"""How far values of float images may lie outside [0, 1]; interpolation overshoots by that much."""


def fitted_size(h: int, w: int, height: int, width: int) -> tuple[int, int]:
    """Height and width of an h x w image scaled to fit into height x width."""
    ratio = max(w / width, h / height)
    return int(h / ratio), int(w / ratio)


def resize_with_pad(
    image: UInt8[np.ndarray, "h w 3"], height: int, width: int, resizing: Resizing = "antialiased"
) -> UInt8[np.ndarray, "H W 3"]:
    """Scale an image to fit, and centre it on black.

    An image of the target size is returned without a copy.
    """
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    new_h, new_w = fitted_size(h, w, height, width)
    if resizing == "bilinear":
        small = _bilinear(image, new_h, new_w)
    else:
        scaled = PIL.Image.fromarray(image).resize((new_w, new_h), PIL.Image.Resampling.BILINEAR)
        small = np.asarray(scaled)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - new_h) // 2, (width - new_w) // 2
    canvas[top : top + new_h, left : left + new_w] = small
    return canvas


def _bilinear(image: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
    """Interpolate between the four pixels around the centre of each new pixel."""
    top, bottom, down = _neighbours(image.shape[0], height)
    left, right, across = _neighbours(image.shape[1], width)
    pixels = image.astype(np.float32)
    rows = pixels[top] + (pixels[bottom] - pixels[top]) * down[:, None, None]
    small = rows[:, left] + (rows[:, right] - rows[:, left]) * across[:, None]
    return np.rint(small).astype(np.uint8)


def _neighbours(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every new pixel of a line: the old pixel before its centre, that after it, and the weight of the latter."""
    centres = np.maximum((np.arange(new, dtype=np.float32) + 0.5) * (old / new) - 0.5, 0.0)
    before = np.minimum(centres.astype(np.int64), old - 1)
    return before, np.minimum(before + 1, old - 1), (centres - before).astype(np.float32)


def uint8_image(image: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Convert an image to uint8 with channels last, where its meaning is certain.

    Floats in [0, 1] are truncated, not rounded, as in the reference implementation; a twentieth beyond is clipped.
    Integers in [0, 255], grey images, opaque fourth channels and channels first (a first axis of length 3, and another
    last one) are converted.

    Raises:
      ValueError: If it is anything else.
    """
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3:
        return np.ascontiguousarray(image)
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or 0 in image.shape:
        raise _no_image(image, "")
    levels = _as_levels(image)
    if levels.ndim == 3 and levels.shape[0] in (1, 3) and levels.shape[-1] not in (1, 3, 4):
        levels = np.moveaxis(levels, 0, -1)
    if levels.ndim == 2 or levels.shape[-1] == 1:
        levels = np.repeat(levels.reshape(*levels.shape[:2], 1), 3, axis=-1)
    if levels.shape[-1] == 4 and (levels[..., 3] == 255).all():
        levels = levels[..., :3]
    if levels.shape[-1] != 3:
        raise _no_image(image, ", which is transparent" if levels.shape[-1] == 4 else "")
    return np.ascontiguousarray(levels)


def _as_levels(image: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """Values as grey levels from 0 to 255."""
    low, high = image.min(), image.max()
    if np.issubdtype(image.dtype, np.floating):
        if not (low >= -FLOAT_MARGIN and high <= 1 + FLOAT_MARGIN):
            raise _no_image(image, f" from {low:g} to {high:g}")
        return (255 * np.clip(image, 0, 1)).astype(np.uint8)
    if not np.issubdtype(image.dtype, np.integer):
        raise _no_image(image, "")
    if low < 0 or high > 255:
        raise _no_image(image, f" from {low} to {high}")
    return image.astype(np.uint8)


def _no_image(image: np.ndarray, more: str) -> ValueError:
    return ValueError(
        f"An image must be [h, w, 3], uint8 from 0 to 255 or float from 0 to 1; got {image.dtype} {image.shape}{more}."
    )


def zero_padded(x: Float[np.ndarray, "*n d"], size: int) -> Float[np.ndarray, "*n _"]:
    """Pad the last axis with zeros to `size`; longer arrays stay unchanged."""
    missing = size - x.shape[-1]
    if missing <= 0:
        return x
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])


def delta_mask(*runs: int) -> tuple[bool, ...]:
    """A mask from run lengths: 6 for six True, -1 for one False.

    >>> delta_mask(2, -1)
    (True, True, False)
    """
    return tuple(run > 0 for run in runs for _ in range(abs(run)))


def delta_actions(
    actions: Float[np.ndarray, "t d"], state: Float[np.ndarray, "s"], mask: Sequence[bool]
) -> Float[np.ndarray, "t d"]:
    """Subtract the current state from the masked entries of a chunk."""
    return _shifted(actions, -_masked(state, mask), len(mask))


def absolute_actions(
    actions: Float[np.ndarray, "t d"], state: Float[np.ndarray, "s"], mask: Sequence[bool]
) -> Float[np.ndarray, "t d"]:
    """Add the current state to the masked entries of a chunk; the inverse of `delta_actions`."""
    return _shifted(actions, _masked(state, mask), len(mask))


def subsampled(actions: Float[np.ndarray, "t d"], stride: int) -> Float[np.ndarray, "_ d"]:
    """Every stride-th action, the first included."""
    return actions[::stride]


def _masked(state: np.ndarray, mask: Sequence[bool]) -> Float[np.ndarray, "_"]:
    return np.where(np.asarray(mask, bool), state[: len(mask)], 0.0)


def _shifted(actions: np.ndarray, by: np.ndarray, entries: int) -> np.ndarray:
    shifted = np.array(actions, dtype=np.result_type(actions, np.float32))
    shifted[..., :entries] += by
    return shifted
