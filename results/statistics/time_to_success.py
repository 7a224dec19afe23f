"""How soon policies succeed, counting the episodes in which they did not.

The mean over successes alone rewards a policy for failing its slow episodes. Here an episode that
failed has not succeeded by the end of the task's time: the share that has succeeded by each step,
and the mean time up to that limit, speak of all completed episodes. Times are in control steps.

Axis letters: n episodes, s distinct steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from simloop.results.statistics.intervals import Interval, wilson


@dataclass(frozen=True)
class SuccessCurve:
    """Share of episodes that have succeeded by each step, with pointwise 95 % intervals."""

    steps: Int[np.ndarray, "s"]
    share: Float[np.ndarray, "s"]
    low: Float[np.ndarray, "s"]
    high: Float[np.ndarray, "s"]


def success_by_step(
    steps: Int[np.ndarray, "n"], succeeded: Bool[np.ndarray, "n"], *, confidence: float = 0.95
) -> SuccessCurve:
    """One less the Kaplan-Meier curve, from step 0 on; it jumps at the steps given and is flat between them.

    Args:
      steps: When each episode succeeded, or for how long it is known not to have: its limit, also where
        it was given up before, for it will not succeed any more.

    Raises:
      ValueError: If there are no episodes.

    Intervals are Wilson's, of as many episodes as have the variance of the curve: all of them, as long as none was
    given up. The usual ones, on the log-log scale, claim certainty before the first success and covered 75 %
    in place of 95 % for a share of 0.14 of 10 episodes. These covered 93.0 to 97.0 % in simulations: where a rate is
    far from the middle, Wilson's cover a little less than they say.

    References: E. L. Kaplan and P. Meier (1958), doi:10.1080/01621459.1958.10501452; F. J. Dorey and E. L. Korn
    (1987), doi:10.1002/sim.4780060605, for effective numbers.
    """
    if not len(steps):
        raise ValueError("A curve needs at least one completed episode; got none.")
    survival = stats.ecdf(stats.CensoredData.right_censored(steps, ~succeeded)).sf
    at = np.concatenate([[0], survival.quantiles]).astype(np.int64)
    left = np.concatenate([[1.0], survival.probabilities])
    # Greenwood's sum over the steps at which episodes succeeded.
    still = np.array([(steps >= step).sum() for step in at], np.float64)
    won = np.array([(succeeded & (steps == step)).sum() for step in at], np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = left**2 * np.cumsum(won / (still * (still - won)))
        episodes = left * (1 - left) / variance
    episodes = np.where(np.isfinite(episodes), episodes, len(steps))
    low, high = proportion_confint((1 - left) * episodes, episodes, 1 - confidence, "wilson")
    return SuccessCurve(at, 1 - left, np.where(left == 1, 0.0, low), np.where(left == 0, 1.0, high))


def restricted_mean(
    steps: Int[np.ndarray, "n"], succeeded: Bool[np.ndarray, "n"], limit: int, *, confidence: float = 0.95
) -> tuple[float, Interval]:
    """Mean time to success up to a limit, episodes without success counting as the limit; with its interval.

    The area under the Kaplan-Meier curve of episodes that are followed to the limit. It falls short of the
    limit by (success rate) x (time that a success saves), and the interval joins those of the two, Wilson's
    and Student's: the usual one, from Greenwood's variance, covers 79 % rather than 95 % at 10 episodes with
    a success rate of 0.9, for it does not know of failures that were not seen.

    Raises:
      ValueError: If there are no episodes.

    Reference: P. Royston and M. K. B. Parmar (2013), doi:10.1186/1471-2288-13-152, for the mean; for joining
    intervals of factors, Zou and Donner (2008), doi:10.1002/sim.3095, on the scale of logarithms.
    """
    n = len(steps)
    if not n:
        raise ValueError("A mean time needs at least one completed episode; got none.")
    event = succeeded & (steps <= limit)
    saved = limit - steps[event].astype(np.float64)
    mean = limit - float(saved.sum()) / n
    count = len(saved)
    of_rate = wilson(count, n, confidence=confidence)
    if count < 2:  # What a success saves is not known; at most it is all of the time.
        return mean, Interval(limit * (1 - of_rate.high), float(limit))
    rate, gain = count / n, float(saved.mean())
    reach = float(stats.t.isf((1 - confidence) / 2, count - 1) * stats.sem(saved))
    gain_low, gain_high = max(gain - reach, 0.0), min(gain + reach, float(limit))
    if gain == 0:
        return mean, Interval(mean, mean)
    with np.errstate(divide="ignore"):
        down = np.hypot(np.log(rate / of_rate.low), np.log(np.divide(gain, gain_low)))
        up = np.hypot(np.log(of_rate.high / rate), np.log(gain_high / gain))
    return mean, Interval(
        max(0.0, limit - rate * gain * float(np.exp(up))), limit - rate * gain * float(np.exp(-down))
    )
