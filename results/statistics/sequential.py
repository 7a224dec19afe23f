"""Anytime-valid comparison of two policies: e-process, confidence sequence and stopping rule.

Rejecting equal rates at an e-value of 20 has a type I error of at most 0.05, however often the e-value was computed
and whatever made the run stop. The order of the pairs must be fixed in advance, with tasks mixed: otherwise early
pairs are all of one task.

Axis letters: n pairs, m hypothesised means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from jaxtyping import Bool, Float

from simloop.results.statistics.intervals import Interval

Decision = Literal["differ", "equivalent", "continue", "undecided"]

# Parameter of Jeffreys' prior, a Beta distribution, for the share of discordant pairs in which a succeeds.
PRIOR = 0.5

# Hypothesised means that a confidence sequence tests: it resolves differences of 0.002.
MEANS = 1001

# A bet is at most this share of the one that could lose all capital.
STAKE = 0.5


@dataclass(frozen=True)
class StoppingRule:
    """When to stop comparing two policies. Fix and record it before the first episode.

    Raises:
      ValueError: If a number is out of its range.
    """

    alpha: float = 0.05
    """Largest probability of deciding that equal policies differ and, separately, that policies which differ by the
    margin are equivalent."""
    margin: float = 0.02
    """Differences of rates below it are irrelevant."""
    max_pairs: int = 2000

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 < self.alpha < 1 and 0 < self.margin < 1 and self.max_pairs >= 1):
            raise ValueError(f"Wanted alpha and margin in (0, 1) and at least one pair; got {self}.")

    def decide(self, a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"]) -> tuple[Decision, int]:
        """Apply the rule to the outcomes so far: the decision, and the number of pairs after which it was reached.

        `continue` means that more pairs are needed, `undecided` that `max_pairs` were not enough. Pairs after the
        decision do not change it.

        Args:
          a: Whether policy a succeeded in each pair, in the order that was fixed in advance.
          b: The same for policy b.
        """
        a, b = a[: self.max_pairs], b[: self.max_pairs]
        differ = e_process(a, b) >= 1 / self.alpha
        equivalent = within_margin(a, b, self.margin, alpha=self.alpha)
        decided = differ | equivalent
        if not decided.any():
            return ("undecided" if len(a) == self.max_pairs else "continue"), len(a)
        first = int(np.argmax(decided))
        return ("differ" if differ[first] else "equivalent"), first + 1


def e_process(a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """The e-value against equal rates after each pair.

    If the rates are equal on every task, the probability that it ever reaches 1/alpha is at most alpha.

    Args:
      a: Whether policy a succeeded in each pair, in the order that was fixed in advance.
      b: The same for policy b.

    References: J. Ville (1939) for the bound; otherwise as for `log_e_values`.
    """
    only_a, only_b = np.cumsum(a & ~b).astype(np.float64), np.cumsum(~a & b).astype(np.float64)
    values: Float[np.ndarray, "n"] = np.exp(log_e_values(only_a, only_b))
    return values


def rate_sequence(successes: int | float, episodes: int | float, *, confidence: float = 0.95) -> Interval:
    """Interval for a success rate that holds at all numbers of episodes together, and so under any stopping rule.

    It holds the rates against which the likelihood averaged over a Beta(1/2, 1/2) prior is less than
    1 / (1 - confidence). Tasks of different rates may be pooled if every task is played once per round: the expected
    factors of a round then average 1 at the mean rate, and so their product is at most 1.

    Args:
      successes: May be fractional, as a mean rate times a number of episodes.

    References: H. Robbins (1970), doi:10.1214/aoms/1177696786, with Ville's inequality.
    """
    failures = episodes - successes
    limit = scipy.special.betaln(PRIOR + successes, PRIOR + failures) - scipy.special.betaln(PRIOR, PRIOR)
    limit += math.log(1 - confidence)

    def excess(rate: float) -> float:
        return float(scipy.special.xlogy(successes, rate) + scipy.special.xlog1py(failures, -rate) - limit)

    def end(side: float) -> float:
        if excess(side) >= 0:
            return float(round(side))
        return float(scipy.optimize.brentq(excess, side, successes / episodes))

    return Interval(end(1e-12), end(1 - 1e-12))


def difference_sequence(
    a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"], *, confidence: float = 0.95
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Confidence sequence for the difference of the two rates, a less b: its ends after each pair.

    All intervals together cover the true difference with the given confidence, and each lies within the one before.
    nan once every difference is rejected, which can happen if pairs are not exchangeable, such as one task after
    the other.

    Args:
      a: Whether policy a succeeded in each pair, in the order that was fixed in advance.
      b: The same for policy b.

    Reference: hedged betting with predictable plug-in stakes, Waudby-Smith and Ramdas (2024),
    doi:10.1093/jrsssb/qkad009, theorem 3 and equation 26, for (a - b + 1) / 2, which lies in [0, 1].
    """
    log_up, log_down = _log_capitals(a, b, np.linspace(0.0, 1.0, MEANS), 1 - confidence)
    # One half of the capital bets on a higher mean, the other on a lower one.
    capital = np.maximum(log_up, log_down) - math.log(2)
    kept = np.logical_and.accumulate(capital < -math.log(1 - confidence), axis=0)
    # Means between the last kept one and the next on the grid may belong to the interval, too.
    step = 1 / (MEANS - 1)
    low = np.argmax(kept, axis=1) * step - step
    high = 1 - np.argmax(kept[:, ::-1], axis=1) * step + step
    none = ~kept.any(axis=1)
    low[none], high[none] = math.nan, math.nan
    return 2 * np.clip(low, 0.0, 1.0) - 1, 2 * np.clip(high, 0.0, 1.0) - 1


def within_margin(
    a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"], margin: float, *, alpha: float = 0.05
) -> Bool[np.ndarray, "n"]:
    """Whether the confidence sequence of the difference lies within ± margin after each pair.

    The capital of the bet on a higher mean decreases with the hypothesised mean, and that of the other bet
    increases, so only the two ends of the margin are tested rather than a grid.

    Args:
      a: Whether policy a succeeded in each pair, in the order that was fixed in advance.
      b: The same for policy b.
    """
    ends = np.array([1 - margin, 1 + margin]) / 2
    log_up, log_down = _log_capitals(a, b, ends, alpha)
    refuted = np.stack([log_up[:, 0], log_down[:, 1]], axis=1) - math.log(2) >= -math.log(alpha)
    both = np.logical_or.accumulate(refuted, axis=0)
    return both[:, 0] & both[:, 1]


def _log_capitals(
    a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"], means: Float[np.ndarray, "m"], alpha: float
) -> tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n m"]]:
    """Log capital after each pair, betting that the mean of (a - b + 1) / 2 is above, and below, each of `means`."""
    scores = (a.astype(np.float64) - b + 1) / 2
    stakes = _stakes(scores, alpha)[:, None]
    with np.errstate(divide="ignore"):
        up = np.minimum(stakes, STAKE / means)
        down = np.minimum(stakes, STAKE / (1 - means))
    gain = scores[:, None] - means
    return np.cumsum(np.log1p(up * gain), axis=0), np.cumsum(np.log1p(-down * gain), axis=0)


def log_e_values(
    only_a: Float[np.ndarray, "*shape"], only_b: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Natural logarithm of the e-value against equal rates.

    The e-value is the likelihood of the discordant pairs, averaged over the share won by a with prior
    Beta(1/2, 1/2), relative to that of a fair coin. Its mean is 1 if the rates are equal.

    Args:
      only_a: Numbers of pairs in which only a succeeded.
      only_b: Numbers of pairs in which only b succeeded.

    References: H. Robbins (1970), doi:10.1214/aoms/1177696786; Ramdas, Grünwald, Vovk and Shafer (2023),
    doi:10.1214/23-STS894.
    """
    log_mixture = scipy.special.betaln(PRIOR + only_a, PRIOR + only_b) - scipy.special.betaln(PRIOR, PRIOR)
    values: Float[np.ndarray, "*shape"] = log_mixture + (only_a + only_b) * math.log(2)
    return values


def _stakes(scores: Float[np.ndarray, "n"], alpha: float) -> Float[np.ndarray, "n"]:
    """Bet on each pair, which decreases with the variance of the pairs before it."""
    count = np.arange(1, len(scores) + 1)
    means = (0.5 + np.cumsum(scores)) / (count + 1)
    variances = (0.25 + np.cumsum((scores - means) ** 2)) / (count + 1)
    before = np.concatenate([[0.25], variances[:-1]])[: len(scores)]
    return np.sqrt(2 * math.log(2 / alpha) / (before * count * np.log(count + 1)))
