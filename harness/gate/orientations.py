"""Name how an image was made from another: which camera, turned, mirrored, or with exchanged colours.

Axis letters: h image height, w image width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import PIL.Image
from jaxtyping import UInt8

ORIENTATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "upright": lambda image: image,
    "rotated by 180 degrees": lambda image: image[::-1, ::-1],
    "mirrored": lambda image: image[:, ::-1],
    "upside down and mirrored": lambda image: image[::-1],
    "rotated by 90 degrees": np.rot90,
    "rotated by 270 degrees": lambda image: np.rot90(image, 3),
    "with red and blue exchanged": lambda image: image[..., ::-1],
}
"""What adapters do to images of a suite."""
COMPARED = 48
"""Pixels to which both sides of images are reduced before they are compared by their correlation."""
BETTER = 0.05
"""Correlations that differ by less do not tell which orientation is right."""
MIN_CORRELATION = 0.6
"""Smallest correlation of images that show the same scene."""


@dataclass(frozen=True)
class Match:
    """The image that resembles another one most."""

    camera: str
    orientation: str
    correlation: float
    as_it_is: float
    """Correlation with the image that was expected, upright."""


def orientation_of(image: np.ndarray, original: np.ndarray) -> str | None:
    """What makes an image of the original, to the last pixel; None if nothing of `ORIENTATIONS` does."""
    equal = (name for name, turned in ORIENTATIONS.items() if np.array_equal(image, turned(original)))
    return next(equal, None)


def best_match(
    image: UInt8[np.ndarray, "h w 3"], expected: str, references: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]
) -> Match:
    """The camera and orientation of reference images that an image resembles most.

    Args:
      image: What the policy sees.
      expected: Name of the reference that it should show.
      references: Images by camera. Colours and small things may differ.
    """
    small = _reduced(image)
    matches = [
        (_correlation(small, turned), camera, orientation)
        for camera, reference in references.items()
        for orientation, turned in _turned(_reduced(reference))
    ]
    as_it_is = next(r for r, camera, turn in matches if (camera, turn) == (expected, "upright"))
    best, camera, orientation = max(matches)
    if best < as_it_is + BETTER:
        best, camera, orientation = as_it_is, expected, "upright"
    return Match(camera, orientation, best, as_it_is)


def _turned(image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    return ((name, np.asarray(turn(image))) for name, turn in ORIENTATIONS.items())


def _reduced(image: np.ndarray) -> np.ndarray:
    scaled = PIL.Image.fromarray(np.ascontiguousarray(image)).resize(
        (COMPARED, COMPARED), PIL.Image.Resampling.BOX
    )
    return np.asarray(scaled, np.float64)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum() / norm) if norm else 0.0
