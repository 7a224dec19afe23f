"""One recorded array against what this code computes for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Measure = Literal["rms", "rms_absolute", "max", "identical"]


@dataclass(frozen=True)
class ArrayComparison:
    """A computed array beside the recorded one, and how far apart they may be.

    Measures: `rms` is rms(got - wanted) / rms(wanted); `rms_absolute` is rms(got - wanted); `max`
    is max |got - wanted|; `identical` counts the entries that differ and has the limit 0.
    """

    name: str
    wanted: np.ndarray
    got: np.ndarray
    limit: float
    measure: Measure = "rms"
    pool: tuple[ArrayComparison, ...] = ()
    """This and what else is judged with it as one array, by the rms of all; empty if it stands alone."""

    @property
    def same_shape(self) -> bool:
        """Whether the arrays can be compared at all."""
        return np.shape(self.wanted) == np.shape(self.got)

    @property
    def max_absolute(self) -> float:
        """Largest difference of an entry; infinite if shapes differ or an entry is not a number."""
        if not self.same_shape:
            return float("inf")
        if np.size(self.wanted) == 0:
            return 0.0
        difference = np.abs(_as_float(self.got) - _as_float(self.wanted))
        return float("inf") if np.isnan(difference).any() else float(difference.max())

    @property
    def rms_relative(self) -> float:
        """rms of the difference over rms of the recorded array."""
        if not self.same_shape:
            return float("inf")
        scale = _rms(_as_float(self.wanted))
        error = self._rms_absolute()
        return error / scale if scale > 0 else (0.0 if error == 0 else float("inf"))

    @property
    def value(self) -> float:
        """The figure that is held against the limit."""
        if not self.same_shape:
            return float("inf")
        if self.measure == "rms":
            return self.rms_relative
        if self.measure == "rms_absolute":
            return self._rms_absolute()
        if self.measure == "max":
            return self.max_absolute
        return float(np.sum(np.asarray(self.got) != np.asarray(self.wanted)))

    @property
    def passed_alone(self) -> bool:
        """Whether the figure is within the limit. NaN never is."""
        return self.value <= self.limit

    @property
    def passed(self) -> bool:
        """The verdict: on the pool, or on this array alone where there is none."""
        return self.pooled_value <= self.pooled_limit if self.pool else self.passed_alone

    @property
    def pooled_value(self) -> float:
        """rms of the difference over all entries of the pool."""
        return self._pooled([c.value for c in self.pool])

    @property
    def pooled_limit(self) -> float:
        """The limits of the pool, taken together in the same way."""
        return self._pooled([c.limit for c in self.pool])

    def _pooled(self, figures: list[float]) -> float:
        sizes = [np.size(c.wanted) for c in self.pool]
        return float(np.sqrt(np.average(np.square(figures), weights=sizes)))

    def _rms_absolute(self) -> float:
        error = _rms(_as_float(self.got) - _as_float(self.wanted))
        return float("inf") if np.isnan(error) else error


def _as_float(array: np.ndarray) -> np.ndarray:
    return np.asarray(array).astype(np.float64)


def _rms(array: np.ndarray | np.floating) -> float:
    return float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0
