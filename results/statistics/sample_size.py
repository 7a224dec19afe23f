"""How many episodes an answer takes: to be asked before anything is run.

All numbers of episodes are per policy, over all tasks together. Policies differ in difficulty of
tasks, too, which pairing and comparing within tasks take out; what is planned here for one common
rate is therefore on the safe side for several tasks.

Axis letters: r simulated runs, n pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float
from scipy import optimize

from simloop.results.errors import ResultsError
from simloop.results.statistics.sequential import log_e_values

# Correlation of the outcomes of two different policies in the same episode, to plan with unless it was
# measured: the median over 1,232 pairs of published policies was 0.14 within tasks.
CORRELATION = 0.15

RUNS = 1000  # Simulated for sequential plans: powers are then good to about 1.5 points.
SEED = 0  # The same question has the same answer.
LONGEST = 20_000  # Pairs of a simulated run; who needs more would not run them.


@dataclass(frozen=True)
class Design:
    """What is supposed and what is wanted of a comparison of two policies.

    Raises:
      ResultsError: If a number is out of its range.
    """

    base: float = 0.9
    """Success rate of the better policy."""
    correlation: float = CORRELATION
    """Of the outcomes of the two policies in the same episode."""
    alpha: float = 0.05
    """Two-sided level, divided by the number of comparisons."""
    power: float = 0.8
    """How often the difference is to be found."""
    comparisons: int = 1
    """Pairs of policies that will be compared."""

    def __post_init__(self) -> None:
        """Refuse what no plan can be made of."""
        if not (0 < self.base < 1 and 0 < self.alpha < 1 and 0 < self.power < 1):
            raise ResultsError(
                f"Base rate, alpha and power lie in (0, 1); got {self.base}, {self.alpha} and {self.power}."
            )
        if not -1 < self.correlation < 1 or self.comparisons < 1:
            raise ResultsError(
                f"Wanted a correlation in (-1, 1) and at least one comparison; got {self.correlation} and "
                f"{self.comparisons}."
            )

    @property
    def level(self) -> float:
        """Level of each comparison."""
        return self.alpha / self.comparisons

    def discordant(self, difference: float) -> tuple[float, float]:
        """Shares of episodes in which only the better, and only the worse policy succeeds.

        The correlation is cut to what the two rates allow.

        Raises:
          ResultsError: If the worse policy's rate would be under 0.
        """
        worse = self.base - difference
        if not 0 <= difference <= self.base:
            raise ResultsError(
                f"A difference from the base rate {self.base} lies between 0 and that; got {difference}."
            )
        spread = math.sqrt(self.base * (1 - self.base) * worse * (1 - worse))
        both = self.base * worse + self.correlation * spread
        both = min(max(both, 0.0, self.base + worse - 1), worse)
        return self.base - both, worse - both


def unpaired_episodes(design: Design, difference: float) -> float:
    """Episodes of each policy to find a difference of rates between policies that share no episodes.

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
    """Episodes, played by both policies, to find a difference by McNemar's test.

    Reference: R. J. Connor (1987), doi:10.2307/2531961.
    """
    better, worse = design.discordant(difference)
    discordant = better + worse
    z_level, z_power = _quantiles(design)
    reach = z_level * math.sqrt(discordant) + z_power * math.sqrt(max(discordant - difference**2, 0.0))
    return (reach / difference) ** 2 if difference else math.inf


def equivalence_episodes(design: Design, margin: float) -> float:
    """Episodes, played by both policies, to show that equal policies differ by less than a margin.

    Reference: two one-sided tests, both of which must succeed; Julious (2004), section 5,
    doi:10.1002/sim.1783.
    """
    better, worse = design.discordant(0.0)
    normal = NormalDist()
    reach = normal.inv_cdf(1 - design.level) + normal.inv_cdf((1 + design.power) / 2)
    return (better + worse) * (reach / margin) ** 2


def detectable_difference(design: Design, episodes: int, *, paired: bool) -> float | None:
    """Smallest difference that so many episodes find with the wanted power; None if none is large enough."""
    needed = paired_episodes if paired else unpaired_episodes
    least = 1e-6
    if needed(design, design.base) > episodes:
        return None
    found = optimize.brentq(lambda difference: needed(design, difference) - episodes, least, design.base)
    return float(found)


@dataclass(frozen=True)
class SequentialOutlook:
    """What to expect of looking after every pair and stopping when the e-value suffices."""

    max_pairs: int
    """Pairs after which the wanted share of runs has stopped."""
    mean_pairs: float
    """Pairs played on average, if it goes no further than that."""


def sequential_outlook(design: Design, difference: float, *, runs: int = RUNS) -> SequentialOutlook | None:
    """How long it takes to find a difference when stopping early; None if too long to simulate.

    By simulation, with a fixed seed.
    """
    fixed = paired_episodes(design, difference)
    if fixed > LONGEST / 4:
        return None
    stops = _stopping_times(design, difference, int(max(50, 4 * fixed)), runs)
    last = float(np.quantile(stops, design.power, method="inverted_cdf"))
    if not math.isfinite(last):
        return None
    return SequentialOutlook(int(last), float(np.minimum(stops, last).mean()))


def sequential_power(
    design: Design, difference: float, max_pairs: int, *, runs: int = RUNS
) -> tuple[float, float]:
    """How often a difference is found within so many pairs, and how many are played on average."""
    stops = _stopping_times(design, difference, max_pairs, runs)
    return float(np.isfinite(stops).mean()), float(np.minimum(stops, max_pairs).mean())


def sequential_detectable_difference(design: Design, max_pairs: int, *, runs: int = 400) -> float | None:
    """Smallest difference, to a quarter of a point, that stopping early finds within so many pairs."""
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
    """After how many pairs each simulated run stops; infinite where it does not."""
    rng = np.random.default_rng(SEED)
    better, worse = design.discordant(difference)
    stops = np.full(runs, np.inf)
    for run in range(runs):
        drawn = rng.random(pairs)
        only_a = np.cumsum(drawn < better).astype(np.float64)
        only_b = np.cumsum((drawn >= better) & (drawn < better + worse)).astype(np.float64)
        enough = log_e_values(only_a, only_b) >= -math.log(design.level)
        if enough.any():
            stops[run] = np.argmax(enough) + 1
    return stops


def _quantiles(design: Design) -> tuple[float, float]:
    normal = NormalDist()
    return normal.inv_cdf(1 - design.level / 2), normal.inv_cdf(design.power)
