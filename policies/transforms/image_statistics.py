"""Statistics of the images that a policy was trained with, and the distance of an image from them.

An image is averaged over an 8 x 8 grid, and the cells have a normal distribution with the covariance of probabilistic
principal components (M. Tipping & C. Bishop, 1999). The distance is Mahalanobis's, divided by the root of the number of
entries, so that it is about 1 for images like those of training. Its percentile is taken among images of episodes that
were left out of the fit.

Axis letters: n images, h height, w width, f entries of an averaged image, k components.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from pydantic import ConfigDict, PositiveFloat, TypeAdapter, ValidationError

from simloop.untrusted import parse_json

FILE_NAME = "image_stats.json"
"""Name of the file beside the statistics of state and actions."""
SIDE = 8
ENTRIES = SIDE * SIDE * 3
COMPONENTS = 16
LEAST_DEVIATION = 1 / 255
"""Rounding of a pixel: entries and components that vary less are taken to vary so much."""
PERCENTILES = 101
DIGITS = 5


class ImageStatisticsError(ValueError):
    """Statistics of images that cannot be read."""

    user_facing = True


@dataclass(frozen=True, eq=False)
class ImageStats:
    """Distribution of the averaged images of one camera, and distances of images that it was not fitted to."""

    mean: Float[np.ndarray, "f"]
    """In units of full brightness, as everything here."""
    components: Float[np.ndarray, "k f"]
    """Orthonormal directions of the largest variance."""
    deviations: Float[np.ndarray, "k"]
    """Standard deviation along each of them."""
    rest: float
    """Standard deviation along every other direction."""
    distances: Float[np.ndarray, "p"]
    """Percentiles 0 to 100 of the distance."""

    def distance(self, image: UInt8[np.ndarray, "h w 3"]) -> float:
        """Distance of an image from the distribution."""
        return float(self._distances(averaged(image)[None])[0])

    def percentile(self, distance: float) -> float:
        """Percentage of training images with a smaller distance."""
        return float(np.interp(distance, self.distances, np.linspace(0, 100, len(self.distances))))

    def _distances(self, entries: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n"]:
        centred = entries - self.mean
        along = centred @ self.components.T
        others = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        squared: np.ndarray = ((along / self.deviations) ** 2).sum(axis=1) + others / self.rest**2
        return np.sqrt(squared / entries.shape[1])


def averaged(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "f"]:
    """Mean colours of the cells of an 8 x 8 grid, in [0, 1]."""
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float64).ravel() / 255


def fit_image_stats(fitted: Float[np.ndarray, "n f"], left_out: Float[np.ndarray, "m f"]) -> ImageStats:
    """Fit the distribution to averaged images, and measure distances of others."""
    mean = fitted.mean(axis=0)
    _, lengths, directions = np.linalg.svd(fitted - mean, full_matrices=False)
    variances = lengths**2 / max(len(fitted) - 1, 1)
    count = min(COMPONENTS, len(variances) - 1)
    left = variances[count:].sum() / (fitted.shape[1] - count)
    stats = ImageStats(
        mean,
        directions[:count],
        np.maximum(np.sqrt(variances[:count]), LEAST_DEVIATION),
        max(float(np.sqrt(left)), LEAST_DEVIATION),
        np.zeros(PERCENTILES),
    )
    distances = np.percentile(stats._distances(left_out), np.linspace(0, 100, PERCENTILES))
    return replace(stats, distances=distances)


def image_stats_to_json(stats: Mapping[str, ImageStats]) -> str:
    """Text of an `image_stats.json`, by camera."""
    return json.dumps(
        {
            camera: {
                "mean": _rounded(one.mean),
                "components": [_rounded(component) for component in one.components],
                "deviations": _rounded(one.deviations),
                "rest": _rounded(np.array([one.rest]))[0],
                "distances": _rounded(one.distances),
            }
            for camera, one in stats.items()
        }
    )


def image_stats_from_json(text: str | bytes) -> dict[str, ImageStats]:
    """Parse the text of an `image_stats.json`.

    Raises:
      ImageStatisticsError: If it has another format, or numbers that no statistics have.
    """
    content = parse_json(text, "the text", error=ImageStatisticsError)
    try:
        stored = _STORED.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ImageStatisticsError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return {camera: _sound(camera, one) for camera, one in stored.items()}


@dataclass(frozen=True)
class _Stored:
    """Statistics of one camera as JSON values."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    mean: list[float]
    components: list[list[float]]
    deviations: list[PositiveFloat]
    rest: PositiveFloat
    distances: list[float]


_STORED = TypeAdapter(dict[str, _Stored])


def _sound(camera: str, one: _Stored) -> ImageStats:
    lengths = {len(one.mean), *map(len, one.components)}
    if lengths != {ENTRIES} or len(one.components) != len(one.deviations):
        raise ImageStatisticsError(
            f"{camera}: wanted {ENTRIES} entries for the mean and every component, and a deviation for each; got "
            f"{sorted(lengths)} entries, {len(one.components)} components and {len(one.deviations)} deviations"
        )
    if len(one.distances) != PERCENTILES or one.distances != sorted(one.distances):
        raise ImageStatisticsError(
            f"{camera}: wanted {PERCENTILES} ascending distances; got {len(one.distances)}"
        )
    components = np.array(one.components).reshape(-1, ENTRIES)
    return ImageStats(
        np.array(one.mean), components, np.array(one.deviations), one.rest, np.array(one.distances)
    )


def _rounded(values: Float[np.ndarray, "_"]) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]
