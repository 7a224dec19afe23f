"""Comparison of two policies: paired where episodes are shared, otherwise unpaired."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.multiplicity import compact_letters, holm
from simloop.results.statistics.outcome_matrix import OutcomeMatrix
from simloop.results.statistics.paired import (
    Equivalence,
    Pairs,
    equivalence,
    mcnemar_exact,
    mcnemar_mid_p,
    tango,
)
from simloop.results.statistics.unpaired import (
    EXACT_TABLES,
    cochran_mantel_haenszel,
    margin_p_value,
    miettinen_nurminen,
    newcombe_of_means,
    unpaired_p_value,
)

MARGIN = 0.02  # Two points of success: a smaller difference neither recommends a policy nor refutes a reproduction.

# With a smaller share of episodes in pairs, dropping the others costs more power than pairing gains.
SHARED = 0.5


@dataclass(frozen=True)
class Contrast:
    """Difference of the success rates of two policies on tasks of a suite under one protocol."""

    suite: str
    protocol: str
    tasks: tuple[str, ...]
    a: str
    b: str
    rate_a: float
    rate_b: float
    """Over the episodes compared, with equal weights of pairs if paired, of tasks if not."""
    episodes_a: int
    episodes_b: int
    interval: Interval
    """95 % interval of the difference, a less b."""
    interval_method: str
    p_value: float
    """Two-sided p-value of equal rates, not adjusted for other comparisons (see `adjusted`)."""
    test: str
    exact_p_value: float | None
    """Of the exact McNemar test; None if episodes are not paired."""
    equivalence: Equivalence
    pairs: Pairs | None
    """None if episodes are not paired."""
    unpaired_because: str
    """Reason for an unpaired comparison; empty if episodes are paired."""
    left_out: int
    """Number of completed episodes of either policy that were not compared."""

    @property
    def difference(self) -> float:
        """Success rate of a less that of b."""
        return self.rate_a - self.rate_b

    @property
    def mirrored(self) -> Contrast:
        """The same comparison with a and b swapped."""
        same, pairs = self.equivalence, self.pairs
        return dataclasses.replace(
            self,
            a=self.b,
            b=self.a,
            rate_a=self.rate_b,
            rate_b=self.rate_a,
            episodes_a=self.episodes_b,
            episodes_b=self.episodes_a,
            interval=self.interval.scaled(-1.0),
            equivalence=dataclasses.replace(same, interval=same.interval.scaled(-1.0)),
            pairs=pairs and Pairs(pairs.both, pairs.only_b, pairs.only_a, pairs.neither),
        )

    @property
    def better(self) -> str | None:
        """The policy with the higher rate; None if they are equal."""
        return None if self.rate_a == self.rate_b else self.a if self.rate_a > self.rate_b else self.b


def contrast(
    outcomes: OutcomeMatrix, a: str, b: str, *, margin: float = MARGIN, alpha: float = 0.05
) -> Contrast | None:
    """Compare two policies over all tasks of the outcomes; None if they have no task with completed episodes in common.

    Episodes are paired if at least half of the completed episodes of the policy with fewer of them have a partner
    from the same initial state: mid-p McNemar test on the pairs of all tasks, with Tango's interval. Otherwise they
    are unpaired: on one task Barnard's exact test (the score test for many episodes) with Miettinen and Nurminen's
    interval, over several tasks the Cochran-Mantel-Haenszel test with Newcombe's interval.

    Args:
      margin: Margin of equivalence, a difference of rates.
      alpha: Level of the test of equivalence.

    Raises:
      ValueError: If a policy has no episode in the matrix, or the margin is not in (0, 1).
    """
    (_, done_a), (_, done_b) = outcomes.counts(a), outcomes.counts(b)
    common = [task for task, n, m in zip(outcomes.tasks, done_a, done_b, strict=True) if n and m]
    if not common:
        return None
    here = outcomes.of_tasks(common)
    shared = int(here.shared([a, b]).sum())
    if not here.same_seeds(a, b):
        why = "episodes with the same number started from different states"
    elif shared < SHARED * min(sum(done_a), sum(done_b)):
        why = (
            f"the policies share only {shared} episodes"
            if shared
            else "the policies played different episodes"
        )
    else:
        return _paired(here, a, b, sum(done_a) + sum(done_b) - 2 * shared, margin, alpha)
    return _unpaired(here, a, b, why, sum(done_a) + sum(done_b), margin, alpha)


def contrasts(
    outcomes: OutcomeMatrix,
    policies: Sequence[str] | None = None,
    *,
    margin: float = MARGIN,
    alpha: float = 0.05,
) -> list[Contrast]:
    """Compare all pairs of policies (default: all of the matrix) that completed a task in common.

    Raises:
      ValueError: As `contrast`.
    """
    pairs = itertools.combinations(policies or outcomes.policies, 2)
    made = (contrast(outcomes, a, b, margin=margin, alpha=alpha) for a, b in pairs)
    return [one for one in made if one is not None]


def family_size(policies: int) -> int:
    """Number of pairs of policies."""
    return policies * (policies - 1) // 2


def adjusted(found: Sequence[Contrast], looked_at: int) -> list[float]:
    """p-values of the comparisons, adjusted by Holm for all pairs of the `looked_at` policies that were evaluated."""
    return holm([one.p_value for one in found], family=max(len(found), family_size(looked_at)))


@dataclass(frozen=True)
class Standing:
    """Which policies of a table row differ significantly."""

    letters: dict[str, str]
    """Compact letter display: policies that share a letter do not differ significantly. Empty without a comparison."""
    best: str | None
    """The policy that is significantly better than every other, if there is one."""


def standing(outcomes: OutcomeMatrix, *, looked_at: int | None = None, alpha: float = 0.05) -> Standing:
    """Letters and best policy of all policies of the outcomes, at family-wise level alpha (Holm)."""
    rates = {}
    for policy in outcomes.policies:
        successes, done = outcomes.counts(policy)
        if sum(done):
            rates[policy] = sum(x / n for x, n in zip(successes, done, strict=True) if n) / sum(
                n > 0 for n in done
            )
    if len(rates) < 2:
        return Standing({}, None)
    order = sorted(rates, key=lambda policy: -rates[policy])
    found = contrasts(outcomes, order, alpha=alpha)
    p_values = adjusted(found, looked_at or len(outcomes.policies))
    differ = [one for one, p in zip(found, p_values, strict=True) if p < alpha]
    top = order[0]
    beaten = sum(top in (one.a, one.b) and one.better == top for one in differ)
    best = top if beaten == len(order) - 1 else None
    return Standing(compact_letters(order, [(one.a, one.b) for one in differ]), best)


def _paired(outcomes: OutcomeMatrix, a: str, b: str, left_out: int, margin: float, alpha: float) -> Contrast:
    by_task = outcomes.pairs(a, b)
    pairs = sum(by_task, Pairs())
    n = pairs.episodes
    tasks = tuple(task for task, own in zip(outcomes.tasks, by_task, strict=True) if own.episodes)
    return Contrast(
        outcomes.suite,
        outcomes.protocol,
        tasks,
        a,
        b,
        rate_a=(pairs.both + pairs.only_a) / n,
        rate_b=(pairs.both + pairs.only_b) / n,
        episodes_a=n,
        episodes_b=n,
        interval=tango(pairs),
        interval_method="Tango",
        p_value=mcnemar_mid_p(pairs),
        test="mid-p McNemar" + (f" over {len(tasks)} tasks" if len(tasks) > 1 else ""),
        exact_p_value=mcnemar_exact(pairs),
        equivalence=equivalence(pairs, margin, alpha=alpha),
        pairs=pairs,
        unpaired_because="",
        left_out=left_out,
    )


def _unpaired(
    outcomes: OutcomeMatrix, a: str, b: str, why: str, completed: int, margin: float, alpha: float
) -> Contrast:
    (x_a, n_a), (x_b, n_b) = outcomes.counts(a), outcomes.counts(b)
    confidence = 1 - 2 * alpha
    if len(outcomes.tasks) == 1:
        table = (x_a[0], n_a[0], x_b[0], n_b[0])
        few = (n_a[0] + 1) * (n_b[0] + 1) <= EXACT_TABLES
        test, p_value = "Barnard's exact test" if few else "score test", unpaired_p_value(*table)
        interval_method, interval = "Miettinen-Nurminen", miettinen_nurminen(*table)
        inner = miettinen_nurminen(*table, confidence=confidence)
        margin_p = margin_p_value(*table, margin)
    else:
        test = f"Cochran-Mantel-Haenszel test over {len(outcomes.tasks)} tasks"
        p_value = cochran_mantel_haenszel(x_a, n_a, x_b, n_b)
        interval_method, interval = "Newcombe", newcombe_of_means(x_a, n_a, x_b, n_b)
        inner = newcombe_of_means(x_a, n_a, x_b, n_b, confidence=confidence)
        margin_p = _margin_p_of_means(x_a, n_a, x_b, n_b, margin)
    return Contrast(
        outcomes.suite,
        outcomes.protocol,
        outcomes.tasks,
        a,
        b,
        rate_a=sum(x / n for x, n in zip(x_a, n_a, strict=True)) / len(n_a),
        rate_b=sum(x / n for x, n in zip(x_b, n_b, strict=True)) / len(n_b),
        episodes_a=sum(n_a),
        episodes_b=sum(n_b),
        interval=interval,
        interval_method=interval_method,
        p_value=p_value,
        test=test,
        exact_p_value=None,
        equivalence=Equivalence(margin, inner, margin_p, margin_p < alpha),
        pairs=None,
        unpaired_because=why,
        left_out=completed - sum(n_a) - sum(n_b),
    )


def _margin_p_of_means(
    x_a: list[int], n_a: list[int], x_b: list[int], n_b: list[int], margin: float
) -> float:
    """Smallest alpha at which the interval of `newcombe_of_means` with confidence 1 - 2 alpha lies in ± margin."""
    low, high = 1e-9, 0.5
    for _ in range(50):
        alpha = (low + high) / 2
        interval = newcombe_of_means(x_a, n_a, x_b, n_b, confidence=1 - 2 * alpha)
        if -margin < interval.low and interval.high < margin:
            high = alpha
        else:
            low = alpha
    difference = sum(x / n for x, n in zip(x_a, n_a, strict=True)) - sum(
        x / n for x, n in zip(x_b, n_b, strict=True)
    )
    return high if abs(difference / len(n_a)) < margin else 1.0
