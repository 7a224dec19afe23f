"""Stopping early, and looking as often as one likes: paired evidence that is valid at every moment.

An e-value of 20 against "the policies are equally good" may be believed like a p-value of 0.05,
however it was come by: by looking after every episode, by stopping when it suits. The order of
episodes must be fixed before, and tasks mixed, for else early episodes speak of one task only.

Axis letters: n pairs, m supposed means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize, special

from simloop.results.statistics.intervals import Interval

Decision = Literal["differ", "equivalent", "continue", "undecided"]

# Jeffreys' prior for the share of discordant pairs that a wins: no size of effect is preferred.
PRIOR = 0.5

# Supposed means that a confidence sequence tries: differences are told apart to 0.002.
SUPPOSED_MEANS = 1001

# No more than this share of what would ruin it is staked on one pair. A half keeps it from ruin.
STAKE = 0.5


@dataclass(frozen=True)
class StoppingRule:
    """When to stop comparing two policies; to be fixed, and written down, before the first episode.

    Raises:
      ValueError: If a number is out of its range.
    """

    alpha: float = 0.05
    """How often, at most, equal policies are said to differ; and, apart from that, how often
    policies that differ by the margin are said to be equivalent."""
    margin: float = 0.02
    """Differences of rates below this do not matter."""
    max_pairs: int = 2000

    def __post_init__(self) -> None:
        """Refuse rules that mean nothing."""
        if not (0 < self.alpha < 1 and 0 < self.margin < 1 and self.max_pairs >= 1):
            raise ValueError(f"Wanted alpha and margin in (0, 1) and at least one pair; got {self}.")

    def decide(self, a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"]) -> tuple[Decision, int]:
        """What the rule says of the outcomes so far, and after how many pairs it said so.

        `continue` asks for more pairs, `undecided` has had `max_pairs`. Pairs after the decision
        change nothing, so the answer does not depend on how often it is asked for.

        Args:
          a: Whether policy a succeeded, in the order that was fixed before.
          b: The same of policy b in the same episodes.
        """
        a, b = a[: self.max_pairs], b[: self.max_pairs]
        differ = e_process(a, b) >= 1 / self.alpha
        equivalent = within_margin(a, b, self.margin, alpha=self.alpha)
        decided = differ | equivalent
        if not decided.any():
            return ("undecided" if len(a) == self.max_pairs else "continue"), len(a)
        first = int(np.argmax(decided))
        return ("differ" if differ[first] else "equivalent"), first + 1


def e_value(only_a: int, only_b: int) -> float:
    """Evidence against equal rates in pairs of which only a, or only b, succeeded.

    The likelihood of the discordant pairs, averaged over shares with prior Beta(1/2, 1/2), over
    that of a fair coin. Its mean is 1 if the rates are equal.

    Raises:
      ValueError: If a count is negative.

    Reference: H. Robbins (1970), doi:10.1214/aoms/1177696786; Ramdas, Grünwald, Vovk and Shafer
    (2023), doi:10.1214/23-STS894.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"Counts of pairs are at least 0; got {only_a} and {only_b}.")
    return float(np.exp(log_e_values(np.array([only_a], np.float64), np.array([only_b], np.float64))[0]))


def e_process(a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """The e-value after each pair.

    If the rates are equal, it reaches 1/alpha at any moment with probability alpha at most.

    Args:
      a: Whether policy a succeeded, in the order that was fixed before.
      b: The same of policy b in the same episodes.

    Reference: J. Ville (1939) for the bound; otherwise as for `e_value`.
    """
    return np.exp(log_e_values(np.cumsum(a & ~b).astype(np.float64), np.cumsum(~a & b).astype(np.float64)))


def anytime_p_value(a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"]) -> float:
    """p-value of equal rates that may be looked at after every pair; 1 before the first.

    Reference: one over the largest e-value so far, Ramdas et al. (2023), doi:10.1214/23-STS894.
    """
    return min(1.0, 1 / float(np.max(e_process(a, b), initial=1.0)))


def discordant_share_interval(only_a: int, only_b: int, *, confidence: float = 0.95) -> Interval:
    """Shares of discordant pairs won by a that are not refuted; holds the true one at every moment.

    Agrees with `e_value`: one half lies outside just where that is over 1 / (1 - confidence).

    Raises:
      ValueError: If a count is negative.

    Reference: H. Robbins (1970), doi:10.1214/aoms/1177696786.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"Counts of pairs are at least 0; got {only_a} and {only_b}.")
    limit = -math.log(1 - confidence)
    mixture = special.betaln(PRIOR + only_a, PRIOR + only_b) - special.betaln(PRIOR, PRIOR)

    def refuted(share: float) -> float:
        """Log evidence against a share, less its limit; convex, and least at the observed share."""
        return float(mixture - special.xlogy(only_a, share) - special.xlog1py(only_b, -share) - limit)

    if only_a + only_b == 0:
        return Interval(0.0, 1.0)
    observed = only_a / (only_a + only_b)
    least = np.finfo(np.float64).tiny
    low = optimize.brentq(refuted, least, observed) if only_a else 0.0
    high = optimize.brentq(refuted, observed, 1 - np.finfo(np.float64).epsneg) if only_b else 1.0
    return Interval(float(low), float(high))


def difference_sequence(
    a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"], *, confidence: float = 0.95
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Lower and upper end, after each pair, of an interval for the difference of the two rates.

    All the intervals hold the true difference together, with the given confidence; each lies
    within the one before. Not a number from where every difference is refuted, as may be where
    pairs were not alike, such as tasks one after the other.

    Args:
      a: Whether policy a succeeded, in the order that was fixed before.
      b: The same of policy b in the same episodes.

    Reference: hedged betting with predictable plug-in stakes, Waudby-Smith and Ramdas (2024),
    doi:10.1093/jrsssb/qkad009, theorem 3 and equation 26, for (a - b + 1) / 2, which lies in [0, 1].
    """
    log_up, log_down = _log_capitals(a, b, np.linspace(0.0, 1.0, SUPPOSED_MEANS), 1 - confidence)
    # Half of the capital bets on a higher mean, half on a lower one.
    capital = np.maximum(log_up, log_down) - math.log(2)
    kept = np.logical_and.accumulate(capital < -math.log(1 - confidence), axis=0)
    # Between a mean that was kept and the next that was not there may be more to keep.
    step = 1 / (SUPPOSED_MEANS - 1)
    low = np.argmax(kept, axis=1) * step - step
    high = 1 - np.argmax(kept[:, ::-1], axis=1) * step + step
    none = ~kept.any(axis=1)
    low[none], high[none] = math.nan, math.nan
    return 2 * np.clip(low, 0.0, 1.0) - 1, 2 * np.clip(high, 0.0, 1.0) - 1


def within_margin(
    a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"], margin: float, *, alpha: float = 0.05
) -> Bool[np.ndarray, "n"]:
    """Whether, after each pair, `difference_sequence` has come to lie within ± margin.

    The bet on a higher mean wins the more, the lower the supposed mean, and the other way round; so
    only the two ends of the margin need to be tried, and no grid.

    Args:
      a: Whether policy a succeeded, in the order that was fixed before.
      b: The same of policy b in the same episodes.
    """
    ends = np.array([1 - margin, 1 + margin]) / 2
    log_up, log_down = _log_capitals(a, b, ends, alpha)
    refuted = np.stack([log_up[:, 0], log_down[:, 1]], axis=1) - math.log(2) >= -math.log(alpha)
    both = np.logical_or.accumulate(refuted, axis=0)
    return both[:, 0] & both[:, 1]


def _log_capitals(
    a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"], means: Float[np.ndarray, "m"], alpha: float
) -> tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n m"]]:
    """Log capital after each pair of who bets that the mean of (a - b + 1) / 2 is higher, or lower, than supposed."""
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
    """Natural logarithms of `e_value`, of many counts at once."""
    mixture = special.betaln(PRIOR + only_a, PRIOR + only_b) - special.betaln(PRIOR, PRIOR)
    return mixture + (only_a + only_b) * math.log(2)


def _stakes(scores: Float[np.ndarray, "n"], alpha: float) -> Float[np.ndarray, "n"]:
    """What to stake on each pair, from the pairs before it: the steadier they were, the more."""
    count = np.arange(1, len(scores) + 1)
    means = (0.5 + np.cumsum(scores)) / (count + 1)
    variances = (0.25 + np.cumsum((scores - means) ** 2)) / (count + 1)
    before = np.concatenate([[0.25], variances[:-1]])[: len(scores)]
    return np.sqrt(2 * math.log(2 / alpha) / (before * count * np.log(count + 1)))
