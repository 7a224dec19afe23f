"""Name why vectors do not lie where they are expected: units, signs, order, rotations, normalization.

Axis letters: n samples, d entries of a vector.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from simloop.policies.transforms.normalization import EntryStats

SLACK = 0.5
"""A value may lie beyond the range of the reference by this share of its width: other scenes, other policies."""
FLOOR = 0.02
"""Smallest such distance, in the unit of the entry, for entries that hardly vary in the reference."""
DEVIATIONS = 2.33
"""Standard deviations up to the 1 % and 99 % quantiles of a normal distribution."""
LIKELY = DEVIATIONS
"""Standard deviations within which reordered entries have to lie, since many orders fit somehow."""
UNITS: Mapping[str, float] = {
    "degrees where radians are expected": 180 / np.pi,
    "radians where degrees are expected": np.pi / 180,
    "millimetres where metres are expected": 1000.0,
    "metres where millimetres are expected": 0.001,
    "a hundredfold unit (centimetres, per cent)": 100.0,
    "a hundredth of the unit": 0.01,
}
"""Factor of the values by what they are."""
AXIS_ANGLE = "an axis angle"
READINGS: Mapping[str, Callable[[np.ndarray], Rotation]] = {
    AXIS_ANGLE: Rotation.from_rotvec,
    "Euler angles (x, y, z)": lambda angles: Rotation.from_euler("xyz", angles),
    "Euler angles (z, y, x)": lambda angles: Rotation.from_euler("ZYX", angles),
}
"""Rotations that three numbers denote, by convention."""
OTHER_WAY = "the axis angle that turns the other way round"
SAME_ROTATION_RAD = 1e-3
MOST_RAD = 2 * np.pi + 0.1
"""Largest number in what may be a rotation."""
UNIT_NORM = 1e-3
"""Largest difference of the norm of a quaternion from 1."""


def usual_range(stats: EntryStats) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d"]]:
    """Range of each entry between its 1 % and 99 % quantiles, estimated where the statistics have none."""
    if stats.q01 is not None and stats.q99 is not None:
        return stats.q01, stats.q99
    return stats.mean - DEVIATIONS * stats.std, stats.mean + DEVIATIONS * stats.std


def outside(values: Float[np.ndarray, "n d"], stats: EntryStats) -> Bool[np.ndarray, "d"]:
    """Which entries lie far from where the statistics have them, in most of the samples."""
    size = values.shape[1]
    low, high = (bound[:size] for bound in usual_range(stats))
    slack = np.maximum(SLACK * (high - low), FLOOR)
    away: np.ndarray = np.mean((values < low - slack) | (values > high + slack), axis=0) > 0.5
    return away


def cause_of(values: Float[np.ndarray, "n d"], stats: EntryStats) -> str | None:
    """What would explain that vectors lie outside; None if nothing known does."""
    wrong = outside(values, stats)
    for cause, changed in _changes(values, stats, wrong):
        if not outside(changed, stats).any():
            return cause
    normalized = values * stats.std[: values.shape[1]] + stats.mean[: values.shape[1]]
    if wrong.sum() > 1 and np.abs(values).max() < 2 * DEVIATIONS and not outside(normalized, stats).any():
        return "values that are normalized already"
    return None


def nearest_unit(ratio: float) -> str | None:
    """The unit in which values are larger by about this ratio; None if it is no usual one."""
    distances = {unit: abs(np.log(max(ratio, 1e-9) / factor)) for unit, factor in UNITS.items()}
    nearest = min(distances, key=lambda unit: distances[unit])
    return nearest if distances[nearest] < np.log(2) else None


def quaternion_in(values: Float[np.ndarray, "n d"]) -> int | None:
    """Index of the first of four entries that are a unit quaternion in every sample; None if there are none."""
    for first in range(values.shape[1] - 3):
        norms = np.linalg.norm(values[:, first : first + 4], axis=1)
        if np.abs(norms - 1).max() < UNIT_NORM:
            return first
    return None


def rotation_difference(found: Float[np.ndarray, "n 3"], expected: Float[np.ndarray, "n 3"]) -> str | None:
    """How the same rotations are written in two ways; None if they are others."""
    for (name, read), (other, read_other) in itertools.product(READINGS.items(), repeat=2):
        if (read(found) * read_other(expected).inv()).magnitude().max() < SAME_ROTATION_RAD:
            return f"{name} where {other} is expected" if name != other else OTHER_WAY
    return None


def _changes(
    values: np.ndarray, stats: EntryStats, wrong: np.ndarray
) -> Iterator[tuple[str, Float[np.ndarray, "n d"]]]:
    """Repaired vectors by the fault that they repair, the most specific fault first."""
    size = values.shape[1]
    typical = np.sqrt(stats.mean**2 + stats.std**2)[:size]
    first = quaternion_in(values)
    if first is not None and abs((typical[first : first + 4] ** 2).sum() - 1) > 0.01:
        text = f"a quaternion in entries {first} to {first + 3} where the statistics have none (axis angle or Euler)"
        yield text, stats.mean[None, :size].repeat(len(values), axis=0)  # The entries behind it moved.
    rotated = list(_rotated(values, typical, wrong))
    yield from (pair for pair in rotated if OTHER_WAY in pair[0])
    yield f"{_entries(wrong)} with the other sign", np.where(wrong, -values, values)
    ratio = float(np.median(np.sqrt((values**2).mean(axis=0))[wrong] / np.maximum(typical[wrong], 1e-9)))
    if unit := nearest_unit(ratio):
        yield f"{_entries(wrong)} in {unit}", np.where(wrong, values / UNITS[unit], values)
    yield from rotated
    order = _order(values, stats)
    deviations = np.abs(np.median(values[:, order], axis=0) - stats.mean[:size]) / np.maximum(
        stats.std[:size], FLOOR
    )
    if (deviations < LIKELY).all():
        yield (
            f"another order of {_entries(order != np.arange(size))}: expected {order.tolist()}",
            values[:, order],
        )


def _rotated(
    values: np.ndarray, typical: Float[np.ndarray, "d"], wrong: np.ndarray
) -> Iterator[tuple[str, Float[np.ndarray, "n d"]]]:
    """Vectors with three entries read as a rotation in another convention, where they may be one."""
    for start in range(values.shape[1] - 2):
        three = slice(start, start + 3)
        turns = np.linalg.norm(typical[three]) > 1 and np.abs(values[:, three]).max() < MOST_RAD
        if wrong[three].any() and turns:
            for text, expected in _as_expected(values[:, three]):
                changed = values.copy()
                changed[:, three] = expected
                yield f"entries {start} to {start + 2} are {text}", changed


def _as_expected(found: Float[np.ndarray, "n 3"]) -> Iterator[tuple[str, Float[np.ndarray, "n 3"]]]:
    """Rotations as they may have been expected, by what they are instead."""
    for name, read in READINGS.items():
        if name == AXIS_ANGLE:
            yield OTHER_WAY, _other_way(found)
            yield f"{AXIS_ANGLE} where Euler angles are expected", read(found).as_euler("xyz")
            continue
        axis_angle = read(found).as_rotvec()
        yield f"{name} where {AXIS_ANGLE} is expected", axis_angle
        yield f"{name} where {AXIS_ANGLE} is expected", _other_way(axis_angle)


def _other_way(rotation_vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Axis angles of the same rotations about the opposite axes."""
    angles = np.linalg.norm(rotation_vectors, axis=1, keepdims=True)
    turned: np.ndarray = rotation_vectors * (1 - 2 * np.pi / np.maximum(angles, 1e-9))
    return turned


def _order(values: np.ndarray, stats: EntryStats) -> np.ndarray:
    """For each entry of the statistics the entry of the vectors that fits, so that the sum of distances is least."""
    size = values.shape[1]
    distances = [
        np.abs(np.median(values, axis=0) - stats.mean[entry]) / max(stats.std[entry], FLOOR)
        for entry in range(size)
    ]
    order: np.ndarray = linear_sum_assignment(np.minimum(distances, 1e6))[1]
    return order


def _entries(chosen: Sequence[bool] | np.ndarray) -> str:
    numbers = np.flatnonzero(chosen).tolist()
    return f"entr{'y' if len(numbers) == 1 else 'ies'} {', '.join(map(str, numbers))}"
