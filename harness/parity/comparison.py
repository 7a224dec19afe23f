"""Comparison of recorded arrays with those computed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

Measure = Literal["rms", "rms_absolute", "max", "identical"]
Arrays: TypeAlias = Mapping[str, np.ndarray]

ONE_PASS = 2e-5
"""Limit of the relative rms difference of float32 arrays after at most one pass through a model."""


@dataclass(frozen=True)
class ArrayComparison:
    """A computed array beside the recorded one, and the limit of their difference.

    Measures: `rms` is rms(got - wanted) / rms(wanted); `rms_absolute` is rms(got - wanted); `max` is
    max |got - wanted|; `identical` counts the entries that differ.
    """

    name: str
    wanted: np.ndarray
    got: np.ndarray
    limit: float
    measure: Measure = "rms"
    pool: tuple[ArrayComparison, ...] = ()
    """Comparisons judged together as one array, this one included; empty if it is judged alone."""

    @property
    def same_shape(self) -> bool:
        """Whether the shapes are equal."""
        return np.shape(self.wanted) == np.shape(self.got)

    @property
    def max_absolute(self) -> float:
        """Largest difference of an entry; `inf` if shapes differ or an entry is NaN."""
        if not self.same_shape:
            return float("inf")
        if np.size(self.wanted) == 0:
            return 0.0
        difference = np.abs(_as_float(self.got) - _as_float(self.wanted))
        return float("inf") if np.isnan(difference).any() else float(difference.max())

    @property
    def rms_absolute(self) -> float:
        """rms of the difference; `inf` if shapes differ or an entry is NaN."""
        if not self.same_shape:
            return float("inf")
        error = rms(_as_float(self.got) - _as_float(self.wanted))
        return float("inf") if np.isnan(error) else error

    @property
    def rms_relative(self) -> float:
        """rms of the difference over the rms of the recorded array; `inf` if shapes differ."""
        scale, error = rms(self.wanted), self.rms_absolute
        return error / scale if scale > 0 else (0.0 if error == 0 else float("inf"))

    @property
    def value(self) -> float:
        """The measure that is compared with the limit."""
        if self.measure == "identical":
            differing = np.sum(np.asarray(self.got) != np.asarray(self.wanted)) if self.same_shape else np.inf
            return float(differing)
        measures = {"rms": self.rms_relative, "rms_absolute": self.rms_absolute, "max": self.max_absolute}
        return measures[self.measure]

    @property
    def passed_alone(self) -> bool:
        """Whether this array is within its limit. NaN never is."""
        return self.value <= self.limit

    @property
    def passed(self) -> bool:
        """Whether the pool is within its limit, or this array if it has no pool."""
        return self.pooled_value <= self.pooled_limit if self.pool else self.passed_alone

    @property
    def pooled_value(self) -> float:
        """rms of the difference over all entries of the pool."""
        return self._pooled([c.value for c in self.pool])

    @property
    def pooled_limit(self) -> float:
        """rms of the limits over all entries of the pool."""
        return self._pooled([c.limit for c in self.pool])

    def _pooled(self, values: list[float]) -> float:
        sizes = [np.size(c.wanted) for c in self.pool]
        return float(np.sqrt(np.average(np.square(values), weights=sizes)))


def identical(name: str, wanted: Any, got: Any, *, differing: float = 0.0) -> ArrayComparison:
    """Compare arrays of which at most `differing` entries may differ."""
    return ArrayComparison(name, np.asarray(wanted), np.asarray(got), differing, "identical")


def close(name: str, wanted: Any, got: Any, limit: float) -> ArrayComparison:
    """Compare arrays of which no entry may differ by more than `limit`."""
    return ArrayComparison(name, np.asarray(wanted), np.asarray(got), limit, "max")


def rms(array: np.ndarray) -> float:
    """Return the root mean square of all entries; 0 for an empty array."""
    return float(np.sqrt(np.mean(np.square(_as_float(array))))) if np.size(array) else 0.0


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an npz file; one that does not exist has no arrays."""
    if not path.exists():
        return {}
    with np.load(path) as arrays:
        return dict(arrays)


def below(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def recorded_observation(arrays: Arrays, prefix: str, image_prefix: str) -> dict[str, object]:
    """Return a recorded robot observation with its original keys; `.` in a name stands for a slash."""
    found = below(arrays, prefix)
    images = below(found, image_prefix)
    if images:
        return {"images": images, **{n: a for n, a in found.items() if not n.startswith(image_prefix)}}
    return {name.replace(".", "/"): array for name, array in found.items()}


def _as_float(array: np.ndarray) -> np.ndarray:
    return np.asarray(array).astype(np.float64)
