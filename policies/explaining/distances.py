"""How far images, states and actions are from those that a policy was trained with.

Axis letters: s state size, c chunk steps, a action size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from simloop.policies.presets import Preset
from simloop.policies.transforms.image_statistics import ImageStats
from simloop.policies.transforms.normalization import EntryStats, Normalizer, NormStats
from simloop.policies.transforms.preprocessing import delta_actions

NEAR = 0.01
"""Share of the range of the quantiles by which a value may lie beyond them and still be near the training data."""
FAR_DEVIATIONS = 3.0
"""Deviations from the mean beyond which a value is far from the training data where there are no quantiles."""


@dataclass(frozen=True)
class Distance:
    """Distance of one entry of the state, or of one action dimension over a chunk, from the training data."""

    entry: int
    low: float
    """Smallest value, in robot units; with relative actions, relative to the state."""
    high: float
    mean: float
    std: float
    q01: float | None
    q99: float | None
    deviations: float
    """Largest distance from the mean in standard deviations."""
    overflow: float
    """Largest distance beyond the quantiles q01 and q99, in units of their range; 0 within, or without quantiles."""
    outside: float
    """Share of the values beyond the quantiles by more than 1 % of their range; without quantiles, of those more than
    three deviations from the mean."""
    model_low: float
    """Smallest value after normalization, as the model takes or gives it."""
    model_high: float
    saturated: bool
    """Whether the state is beyond [-1, 1] where the prompt writes it in 256 bins, so that these values share a bin."""


@dataclass(frozen=True)
class ImageDistance:
    """Distance of the image of one camera from those of the training data (`transforms.image_statistics`)."""

    camera: str
    distance: float
    percentile: float
    """Percentage of training images that are nearer."""
    median: float
    """Of the distances of training images."""
    largest: float


def image_distances(
    stats: Mapping[str, ImageStats], images: Mapping[str, UInt8[np.ndarray, "_h _w 3"]]
) -> list[ImageDistance]:
    """Distance of every image, as the model gets it, from the training data; empty without statistics."""
    found = []
    for camera, image in images.items():
        if camera in stats:
            of_camera, distance = stats[camera], stats[camera].distance(image)
            median, largest = of_camera.distances[len(of_camera.distances) // 2], of_camera.distances[-1]
            percentile = of_camera.percentile(distance)
            found.append(ImageDistance(camera, distance, percentile, float(median), float(largest)))
    return found


def state_distances(preset: Preset, stats: NormStats, state: Float[np.ndarray, "s"]) -> list[Distance]:
    """Distance of every entry of a state from the training data; empty without statistics."""
    if preset.spec().state_size is None:
        return []
    return _distances(preset, stats.get("state"), state[None], binned=preset.model.state_in_prompt)


def action_distances(
    preset: Preset, stats: NormStats, chunk: Float[np.ndarray, "c a"], state: Float[np.ndarray, "s"]
) -> list[Distance]:
    """Distance of every dimension of a chunk, in robot units, from the training data; empty without statistics."""
    actions = chunk.astype(np.float64)
    if any(preset.relative) and len(actions):
        actions = delta_actions(actions, state.astype(np.float64), preset.relative)
    return _distances(preset, stats.get("actions"), actions, binned=False)


def _distances(
    preset: Preset, stats: EntryStats | None, values: Float[np.ndarray, "n d"], *, binned: bool
) -> list[Distance]:
    if stats is None or not len(values):
        return []
    values = values.astype(np.float64)
    normalized = Normalizer(preset.normalization, stats).normalize(values)
    found = []
    for i in range(min(values.shape[1], len(stats.mean))):
        column, scaled = values[:, i], normalized[:, i]
        mean, std = float(stats.mean[i]), float(stats.std[i])
        deviations = np.abs(column - mean) / max(std, 1e-6)
        q01, q99, beyond = None, None, np.zeros_like(column)
        outside = deviations > FAR_DEVIATIONS
        if stats.q01 is not None and stats.q99 is not None:
            q01, q99 = float(stats.q01[i]), float(stats.q99[i])
            beyond = np.maximum(np.maximum(q01 - column, column - q99), 0.0) / max(q99 - q01, 1e-6)
            outside = beyond > NEAR
        found.append(
            Distance(
                entry=i,
                low=float(column.min()),
                high=float(column.max()),
                mean=mean,
                std=std,
                q01=q01,
                q99=q99,
                deviations=float(deviations.max()),
                overflow=float(beyond.max()),
                outside=float(outside.mean()),
                model_low=float(scaled.min()),
                model_high=float(scaled.max()),
                saturated=binned and bool((np.abs(scaled) > 1).any()),
            )
        )
    return found
