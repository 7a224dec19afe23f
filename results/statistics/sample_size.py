"""Sample sizes for comparing two policies: episodes needed, and differences that a number of episodes can detect.

All numbers of episodes are per policy, over all tasks together. Tasks also differ in difficulty, which pairing and
comparing within tasks remove; the sizes here, for one common rate, are therefore conservative for several tasks.

Axis letters: r simulated runs, n pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import scipy
from jaxtyping import Float

from simloop.results.errors import ResultsError
from simloop.results.statistics.intervals import quantile
from simloop.results.statistics.sequential import log_e_values

# Correlation of the outcomes of two different policies in the same episode, unless it was measured. The median over
# 1,232 pairs of published policies was 0.14 within tasks.
CORRELATION = 0.15

RUNS = 1000  # Simulated runs of a sequential design: its power then has a standard error of about 1.5 points.
SEED = 0  # The same design gives the same numbers.
LONGEST = 20_000  # Pairs of a simulated run at most.


@dataclass(frozen=True)
class Design:
    """Assumptions and requirements of a comparison of two policies.

    Raises:
      ResultsError: If a number is out of its range.
    """

    base: float = 0.9
    """Success rate of the better policy."""
    correlation: float = CORRELATION
    """Of the outcomes of the two policies in the same episode."""
    alpha: float = 0.05
    """Two-sided significance level, to be divided by the number of comparisons."""
    power: float = 0.8
    """Probability of detecting the difference."""
    comparisons: int = 1
    """Number of pairs of policies to compare."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 < self.base < 1 and 0 < self.alpha < 1 and 0 < self.power < 1):
            raise ResultsError(
                f"Wanted base rate, alpha and power in (0, 1); got {self.base}, {self.alpha} and {self.power}."
            )
        if not -1 < self.correlation < 1 or self.comparisons < 1:
            raise ResultsError(
                f"Wanted a correlation in (-1, 1) and at least one comparison; got {self.correlation} and "
                f"{self.comparisons}."
            )

    @property
    def level(self) -> float:
        """Significance level of each comparison."""
        return self.alpha / self.comparisons

    def discordant(self, difference: float) -> tuple[float, float]:
        """Shares of episodes in which only the better, and only the worse policy succeeds.

        The correlation is clipped to the range that the two rates allow.

        Raises:
          ResultsError: If the difference is not between 0 and the base rate.
        """
        worse = self.base - difference
        if not 0 <= difference <= self.base:
            raise ResultsError(
                f"Wanted a difference between 0 and the base rate {self.base}; got {difference}."
            )
        spread = math.sqrt(self.base * (1 - self.base) * worse * (1 - worse))
        both = self.base * worse + self.correlation * spread
        both = min(max(both, 0.0, self.base + worse - 1), worse)
        return self.base - both, worse - both


def unpaired_episodes(design: Design, difference: float) -> float:
    """Number of episodes per policy to detect a difference of rates in unpaired episodes.

    Reference: J. L. Fleiss (1981), Statistical Methods for Rates and Proportions, equation 3.14,
    without continuity correction.
    """
    design.discordant(difference)
    p, q = design.base, design.base - difference
    mean = (p + q) / 2
    z_level, z_power = _quantiles(design)
    reach = z_level * math.sqrt(2 * mean * (1 - mean)) + z_power * math.sqrt(p * (1 - p) + q * (1 - q))
    return (reach / difference) ** 2 if difference else math.inf


def paired_episodes(design: Design, difference: float) -> float:
    """Number of paired episodes to detect a difference of rates by McNemar's test.

    Reference: R. J. Connor (1987), doi:10.2307/2531961.
    """
    better, worse = design.discordant(difference)
    discordant = better + worse
    z_level, z_power = _quantiles(design)
    reach = z_level * math.sqrt(discordant) + z_power * math.sqrt(max(discordant - difference**2, 0.0))
    return (reach / difference) ** 2 if difference else math.inf


def equivalence_episodes(design: Design, margin: float) -> float:
    """Number of paired episodes to show that equal policies differ by less than a margin.

    Reference: two one-sided tests, both of which must succeed; Julious (2004), section 5,
    doi:10.1002/sim.1783.
    """
    better, worse = design.discordant(0.0)
    normal = NormalDist()
    reach = normal.inv_cdf(1 - design.level) + normal.inv_cdf((1 + design.power) / 2)
    return (better + worse) * (reach / margin) ** 2


def detectable_difference(design: Design, episodes: int, *, paired: bool) -> float | None:
    """Smallest difference that `episodes` detect with the power of the design; None if there is none."""
    needed = paired_episodes if paired else unpaired_episodes
    least = 1e-6
    if needed(design, design.base) > episodes:
        return None
    found = scipy.optimize.brentq(
        lambda difference: needed(design, difference) - episodes, least, design.base
    )
    return float(found)


@dataclass(frozen=True)
class SequentialOutlook:
    """Expected length of a run that stops when the e-value reaches its limit."""

    max_pairs: int
    """Number of pairs after which a share of runs equal to the power has stopped."""
    mean_pairs: float
    """Mean number of pairs, if runs end after `max_pairs`."""


def sequential_outlook(design: Design, difference: float, *, runs: int = RUNS) -> SequentialOutlook | None:
    """Simulate how soon a sequential test detects a difference; None if that takes too many pairs."""
    fixed = paired_episodes(design, difference)
    if fixed > LONGEST / 4:
        return None
    stops = _stopping_times(design, difference, int(max(50, 4 * fixed)), runs)
    last = quantile(stops, design.power)
    if not math.isfinite(last):
        return None
    return SequentialOutlook(int(last), float(np.minimum(stops, last).mean()))


def sequential_power(
    design: Design, difference: float, max_pairs: int, *, runs: int = RUNS
) -> tuple[float, float]:
    """Simulate the probability of detecting a difference within `max_pairs`, and the mean number of pairs."""
    stops = _stopping_times(design, difference, max_pairs, runs)
    return float(np.isfinite(stops).mean()), float(np.minimum(stops, max_pairs).mean())


def sequential_detectable_difference(design: Design, max_pairs: int, *, runs: int = 400) -> float | None:
    """Smallest difference that a sequential test detects within `max_pairs`, in steps of a quarter of a point."""
    step = 0.0025
    low, high = 0, int(design.base / step)
    if sequential_power(design, high * step, max_pairs, runs=runs)[0] < design.power:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if sequential_power(design, middle * step, max_pairs, runs=runs)[0] >= design.power:
            high = middle
        else:
            low = middle
    return high * step


def _stopping_times(design: Design, difference: float, pairs: int, runs: int) -> Float[np.ndarray, "r"]:
    """Number of pairs after which each simulated run stops; infinite if it does not."""
    rng = np.random.default_rng(SEED)
    better, worse = design.discordant(difference)
    stops = np.full(runs, np.inf)
    for run in range(runs):
        drawn = rng.random(pairs)
        only_a = np.cumsum(drawn < better).astype(np.float64)
        only_b = np.cumsum((drawn >= better) & (drawn < better + worse)).astype(np.float64)
        reached = log_e_values(only_a, only_b) >= -math.log(design.level)
        if reached.any():
            stops[run] = np.argmax(reached) + 1
    return stops


def _quantiles(design: Design) -> tuple[float, float]:
    normal = NormalDist()
    return normal.inv_cdf(1 - design.level / 2), normal.inv_cdf(design.power)
