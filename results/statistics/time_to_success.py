"""Time to success, with failures censored at the step limit of the task.

The mean over successes alone favours a policy that fails in slow episodes. The success curve and the restricted mean
are over all completed episodes instead. Times are in control steps.

Axis letters: n episodes, s distinct steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

from simloop.results.statistics.intervals import Interval, wilson, wilson_ends


@dataclass(frozen=True)
class SuccessCurve:
    """Share of episodes that have succeeded by each step, with pointwise confidence intervals."""

    steps: Int[np.ndarray, "s"]
    share: Float[np.ndarray, "s"]
    low: Float[np.ndarray, "s"]
    high: Float[np.ndarray, "s"]


def success_by_step(
    steps: Int[np.ndarray, "n"], succeeded: Bool[np.ndarray, "n"], *, confidence: float = 0.95
) -> SuccessCurve:
    """One minus the Kaplan-Meier estimate from step 0 on, constant between the steps of the curve.

    Args:
      steps: Step at which each episode succeeded, or the step limit of its task if it failed, even if the episode
        ended before.

    Raises:
      ValueError: If there are no episodes.

    Intervals are Wilson's for the effective number of episodes, which has the variance of the curve; it is the number
    of episodes if only failures at the limit are censored. The usual log-log intervals have zero width before the
    first success, and their coverage was 75 % at a share of 0.14 of 10 episodes. In simulations these covered 93.0
    to 97.0 %.

    References: E. L. Kaplan and P. Meier (1958), doi:10.1080/01621459.1958.10501452; F. J. Dorey and E. L. Korn
    (1987), doi:10.1002/sim.4780060605, for effective numbers.
    """
    if not len(steps):
        raise ValueError("Wanted at least one completed episode; got none.")
    survival = scipy.stats.ecdf(scipy.stats.CensoredData.right_censored(steps, ~succeeded)).sf
    at = np.concatenate([[0], survival.quantiles]).astype(np.int64)
    left = np.concatenate([[1.0], survival.probabilities])
    # Greenwood's sum over the steps at which episodes succeeded.
    still = np.array([(steps >= step).sum() for step in at], np.float64)
    won = np.array([(succeeded & (steps == step)).sum() for step in at], np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = left**2 * np.cumsum(won / (still * (still - won)))
        episodes = left * (1 - left) / variance
    episodes = np.where(np.isfinite(episodes), episodes, len(steps))
    low, high = wilson_ends(1 - left, episodes, confidence)
    return SuccessCurve(at, 1 - left, low, high)


def restricted_mean(
    steps: Int[np.ndarray, "n"], succeeded: Bool[np.ndarray, "n"], limit: int, *, confidence: float = 0.95
) -> tuple[float, Interval]:
    """Mean time to success, restricted to a limit at which failures are censored, and its interval.

    This is the area under the Kaplan-Meier curve up to the limit. It equals the limit less (success rate) x (mean time
    that a success saves), and the interval combines those of the two factors, Wilson's and Student's. The usual
    interval, from Greenwood's variance, ignores the uncertainty of an observed success rate of 1: its coverage is
    79 % for 10 episodes at a success rate of 0.9.

    Raises:
      ValueError: If there are no episodes.

    References: P. Royston and M. K. B. Parmar (2013), doi:10.1186/1471-2288-13-152, for the mean; Zou and Donner
    (2008), doi:10.1002/sim.3095, for combining the intervals, on the log scale.
    """
    n = len(steps)
    if not n:
        raise ValueError("Wanted at least one completed episode; got none.")
    event = succeeded & (steps <= limit)
    saved = limit - steps[event].astype(np.float64)
    mean = limit - float(saved.sum()) / n
    count = len(saved)
    of_rate = wilson(count, n, confidence=confidence)
    if count < 2:  # The time that a success saves has no interval; at most it is the limit.
        return mean, Interval(limit * (1 - of_rate.high), float(limit))
    rate, gain = count / n, float(saved.mean())
    reach = float(scipy.stats.t.isf((1 - confidence) / 2, count - 1) * scipy.stats.sem(saved))
    gain_low, gain_high = max(gain - reach, 0.0), min(gain + reach, float(limit))
    if gain == 0:
        return mean, Interval(mean, mean)
    with np.errstate(divide="ignore"):
        down = np.hypot(np.log(rate / of_rate.low), np.log(np.divide(gain, gain_low)))
        up = np.hypot(np.log(of_rate.high / rate), np.log(gain_high / gain))
    return mean, Interval(
        max(0.0, limit - rate * gain * float(np.exp(up))), limit - rate * gain * float(np.exp(-down))
    )
