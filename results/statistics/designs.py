"""Designs of experiments: the strengths of several perturbations at which a policy is evaluated.

Axis letters: n points, k axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # Loads `scipy.stats`, which takes a second, when it is first used.
from jaxtyping import Float64

from simloop.results.errors import ResultsError
from simloop.results.records.perturbation_kinds import KINDS

Method = Literal["axes", "grid", "latin", "sobol", "points"]

DIGITS = 4
"""Significant digits of strengths, so that labels are short."""


class DesignError(ResultsError):
    """Raised for a design that has no points."""


@dataclass(frozen=True)
class Design:
    """Points at which a policy is evaluated beside the unperturbed control.

    Raises:
      DesignError: If there are no points, an axis is unknown or given twice, or a strength is out of range.
    """

    method: Method
    """`axes`: each kind alone at `size` levels. `grid`: all combinations of `size` levels, 0 among them. `latin`: a
    Latin hypercube of `size` points. `sobol`: two scrambled Sobol sequences of `size` points A and B, and A with one
    column of B for each axis (Saltelli et al. 2010). `points`: `rows`."""
    axes: tuple[tuple[str, float], ...]
    """Kind of perturbation and largest strength."""
    size: int = 1
    seed: int = 0
    """Of the points of `latin` and `sobol`."""
    rows: tuple[tuple[float, ...], ...] = ()
    """Strengths of the points of the method `points`, in the order of the axes."""

    def __post_init__(self) -> None:
        """Raise `DesignError` for designs without points."""
        kinds = [kind for kind, _ in self.axes]
        if not kinds or len(set(kinds)) < len(kinds):
            raise DesignError(f"A design varies one kind of perturbation or several, each once; got {kinds}.")
        for kind, most in self.axes:
            if kind not in KINDS:
                raise DesignError(f"There is no perturbation {kind!r}; there are {', '.join(KINDS)}.")
            limit, unit = KINDS[kind].most, KINDS[kind].unit
            if not 0 < most <= limit:
                raise DesignError(
                    f"The largest strength of {kind} lies in (0, {limit:g}] ({unit}); got {most:g}."
                )
        least = {"grid": 2, "sobol": 2, "latin": 2}.get(self.method, 1)
        if self.size < least or (self.method == "sobol" and self.size & (self.size - 1)):
            power = ", and a power of 2" if self.method == "sobol" else ""
            raise DesignError(
                f"The size of the design {self.method} is at least {least}{power}; got {self.size}."
            )
        if any(len(row) != len(kinds) for row in self.rows):
            raise DesignError(f"Every point has {len(kinds)} strengths, one for each axis.")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of perturbation, in the order of the columns."""
        return tuple(kind for kind, _ in self.axes)

    def strengths(self) -> Float64[np.ndarray, "n k"]:
        """Return the strengths of all points; some may be equal, and one of a grid is 0 everywhere.

        Those of `sobol` are A, B, and then A with the column of each axis from B, `size` points each.
        """
        k = len(self.axes)
        if self.method == "points":
            return np.array(self.rows, np.float64).reshape(-1, k)
        if self.method == "axes":
            levels = np.arange(1, self.size + 1) / self.size
            shares = np.concatenate([level * np.eye(k)[[axis]] for axis in range(k) for level in levels])
        elif self.method == "grid":
            shares = np.array(list(itertools.product(np.linspace(0, 1, self.size), repeat=k)))
        elif self.method == "latin":
            shares = scipy.stats.qmc.LatinHypercube(k, rng=self.seed).random(self.size)
        else:
            pair = scipy.stats.qmc.Sobol(2 * k, rng=self.seed).random(self.size)
            a, b = pair[:, :k], pair[:, k:]
            mixed = [np.where(np.arange(k) == axis, b, a) for axis in range(k)]
            shares = np.concatenate([a, b, *mixed])
        drawn = self.method in ("latin", "sobol")
        columns = [_column(shares[:, i], kind, most, drawn=drawn) for i, (kind, most) in enumerate(self.axes)]
        return np.stack(columns, axis=1)

    def corners(self) -> tuple[tuple[float, ...], ...]:
        """Return every combination of no and the largest strength, without the unperturbed one."""
        ends = itertools.product(*((0.0, most) for _, most in self.axes))
        return tuple(row for row in ends if any(row))


def _column(
    shares: Float64[np.ndarray, "n"], kind: str, most: float, *, drawn: bool
) -> Float64[np.ndarray, "n"]:
    """Strengths from shares of the largest; whole ones are equally probable where shares are drawn uniformly."""
    if not KINDS[kind].whole:
        return np.array([float(f"{share * most:.{DIGITS}g}") for share in shares])
    return np.minimum(np.floor(shares * (most + 1)), most) if drawn else np.rint(shares * most)


def named(kinds: Sequence[str], strengths: Sequence[float]) -> dict[str, float]:
    """Strengths by kind, without those that are 0."""
    return {kind: float(s) for kind, s in zip(kinds, strengths, strict=True) if s}
