"""Means of differences that depend on each other within clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # Loads `scipy.stats` when it is first used.
from jaxtyping import Float, Int

from simloop.results.statistics.intervals import Interval


@dataclass(frozen=True)
class ClusteredMean:
    """A mean difference with what is known of its error."""

    difference: float
    interval: Interval
    """95 % interval."""
    p_value: float
    """Two-sided, of no difference."""
    clusters: int


def clustered_mean(
    differences: Float[np.ndarray, "n"], clusters: Int[np.ndarray, "n"]
) -> ClusteredMean | None:
    """Estimate a mean of differences in [-1, 1], with errors that are independent between clusters alone.

    The standard error sums the residuals of each cluster, with the usual correction for few clusters, and the quantile
    is Student's with one degree less than clusters. Where residuals vanish in all clusters, the interval allows for
    as many clusters of the other kind as the exact binomial bound does.

    Returns None for fewer than two clusters, which bound nothing.

    Reference: A. C. Cameron and D. L. Miller (2015), doi:10.3368/jhr.50.2.317.
    """
    names, of = np.unique(clusters, return_inverse=True)
    count = len(names)
    if count < 2:
        return None
    mean = float(differences.mean())
    sums = np.bincount(of, differences - mean)
    error = float(np.sqrt(count / (count - 1) * (sums**2).sum()) / len(differences))
    if error < 1e-12:
        unseen = 1 - 0.025 ** (1 / count)
        interval = Interval(mean - unseen * (mean + 1), mean + unseen * (1 - mean))
        return ClusteredMean(mean, interval, 1.0 if mean == 0 else 2 * 0.5**count, count)
    reach = float(scipy.stats.t.ppf(0.975, count - 1)) * error
    p_value = float(2 * scipy.stats.t.sf(abs(mean) / error, count - 1))
    return ClusteredMean(mean, Interval(max(-1.0, mean - reach), min(1.0, mean + reach)), p_value, count)
