"""First-order and total sensitivity of the success rate to the strengths of perturbations.

The success rate at a point is known from a few episodes, whose noise would pass for sensitivity: products of two rates
are therefore estimated from pairs of different episodes (U-statistics), which makes them unbiased. All points are
played with the same episodes, so that differences between points have little noise.

Axis letters: n base points, k axes, p = k + 2 arms, u episodes, t tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

from simloop.results.statistics.intervals import Interval

RESAMPLES = 1000
LEAST_EPISODES = 4
"""Of each task, so that the spread between them is known."""


@dataclass(frozen=True)
class Index:
    """A sensitivity index: a share of the variance of the success rate over the strengths of the design."""

    value: float
    """Outside [0, 1] by noise alone."""
    interval: Interval
    """By a bootstrap of points and episodes, 95 %."""


@dataclass(frozen=True)
class Sensitivity:
    """Indices of one axis."""

    first: Index
    """Share of the variance that would vanish on average if this strength alone were known."""
    total: Index
    """Share of the variance that would remain on average if all other strengths were known."""


def sensitivities(
    outcomes: Float64[np.ndarray, "n p u"],
    tasks: Int[np.ndarray, "u"],
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> list[Sensitivity] | None:
    """Estimate the indices of every axis; None if the success rate was not shown to vary.

    The first-order index of an axis is the correlation of the rates in B and in A with this column of B, which share
    its strength alone; the total index is one less that of A and the same arm, which share all others (Janon et al.).
    The intervals are percentiles of a bootstrap that resamples base points, and reweights the episodes of each task at
    random (Bayesian bootstrap, widened for few episodes), since both are samples.

    Args:
      outcomes: 1 or 0 in the arms A, B, and A with one column of B for each axis, in this order.
      tasks: Task of each episode, numbered from 0.

    Raises:
      ValueError: If a task has fewer than `LEAST_EPISODES` episodes.

    References: A. Janon et al. (2014), doi:10.1051/ps/2013040, equation 6; A. Saltelli et al. (2010),
    doi:10.1016/j.cpc.2009.09.018, for the arms; D. B. Rubin (1981), doi:10.1214/aos/1176345338, for the weights; and
    A. B. Owen (2007), doi:10.1214/07-AOAS122, for resampling in two directions.
    """
    episodes = np.bincount(tasks)
    if episodes.min(initial=LEAST_EPISODES) < LEAST_EPISODES:
        raise ValueError(
            f"Wanted at least {LEAST_EPISODES} episodes of every task that were completed at all points; got "
            f"{episodes.tolist()}."
        )
    n, p, u = outcomes.shape
    covariance, variance = _estimates(outcomes, tasks, np.ones(u), np.ones(n))
    drawn = np.empty((resamples, 2, 2, p - 2))
    shape = ((episodes - 2) / episodes)[tasks]
    for i in range(resamples):
        rows = np.bincount(rng.integers(n, size=n), minlength=n).astype(np.float64)
        drawn[i] = _estimates(outcomes, tasks, rng.gamma(shape), rows)
    tail = (1 - confidence) / 2
    if variance.min() <= 0 or np.quantile(drawn[:, 1], tail, axis=0).min() <= 0:
        return None
    index = covariance / variance
    # A variance that is not positive in a few resamples says nothing about an index.
    indices = drawn[:, 0] / np.where(drawn[:, 1] > 0, drawn[:, 1], np.nan)
    ends = np.nanquantile(indices, [tail, 1 - tail], axis=0)
    return [
        Sensitivity(
            Index(float(index[0, axis]), Interval(*map(float, ends[:, 0, axis]))),
            Index(float(1 - index[1, axis]), Interval(*(float(1 - end) for end in ends[::-1, 1, axis]))),
        )
        for axis in range(p - 2)
    ]


def _estimates(
    outcomes: Float64[np.ndarray, "n p u"],
    tasks: Int[np.ndarray, "u"],
    episodes: Float64[np.ndarray, "u"],
    rows: Float64[np.ndarray, "n"],
) -> tuple[Float64[np.ndarray, "2 k"], Float64[np.ndarray, "2 k"]]:
    """Covariances between each mixed arm and B, and A, and the variances of the success rate in these arms.

    Args:
      episodes: Weight of each episode.
      rows: Weight of each base point.
    """
    weights = rows / rows.sum()
    mixed = outcomes[:, 2:]
    squares = weights @ _products(outcomes, outcomes, tasks, episodes)
    means = np.tensordot(weights, outcomes, 1)
    covariance, variance = np.empty((2, 2, mixed.shape[1]))
    for i, arm in enumerate((1, 0)):
        mean = (means[[arm]] + means[2:]) / 2
        level = _products(mean, mean, tasks, episodes)
        covariance[i] = weights @ _products(outcomes[:, [arm]], mixed, tasks, episodes) - level
        variance[i] = (squares[arm] + squares[2:]) / 2 - level
    return covariance, variance


def _products(
    x: Float[np.ndarray, "*shape u"],
    y: Float[np.ndarray, "*other u"],
    tasks: Int[np.ndarray, "u"],
    weights: Float64[np.ndarray, "u"],
) -> Float64[np.ndarray, "..."]:
    """Products of two means over episodes, without the products of an episode with itself.

    The means are those over tasks of the weighted means of each task.
    """
    member = (tasks[:, None] == np.arange(tasks.max() + 1)).astype(np.float64)
    one, squared = weights[:, None] * member, weights[:, None] ** 2 * member
    size, own = one.sum(axis=0), squared.sum(axis=0)
    sum_x, sum_y = x @ one, y @ one
    mean_x, mean_y = sum_x / size, sum_y / size
    apart = (sum_x * sum_y - (x * y) @ squared) / (size**2 - own)
    correction = (apart - mean_x * mean_y).sum(axis=-1) / len(size) ** 2
    product: Float64[np.ndarray, "..."] = mean_x.mean(axis=-1) * mean_y.mean(axis=-1) + correction
    return product
