"""Two policies compared as their episodes allow: in pairs where they met the same ones, else as strangers."""

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

MARGIN = 0.02  # Two points of success: less is no reason to prefer a policy, nor to doubt a reproduction.

# Where fewer of the episodes have a partner than this, dropping the others costs more than pairing gains.
SHARED = 0.5


@dataclass(frozen=True)
class Contrast:
    """How often one policy succeeds more than another, on some tasks of a suite under one protocol."""

    suite: str
    protocol: str
    tasks: tuple[str, ...]
    a: str
    b: str
    rate_a: float
    rate_b: float
    """Of the episodes compared: every pair weighs the same if paired, every task if not."""
    episodes_a: int
    episodes_b: int
    interval: Interval
    """95 % interval of the difference of the rates, a less b."""
    interval_method: str
    p_value: float
    """Two-sided, of equal rates. One comparison's own: see `adjusted` for several."""
    test: str
    exact_p_value: float | None
    """Of the exact McNemar test; None where episodes are not paired."""
    equivalence: Equivalence
    pairs: Pairs | None
    """None where episodes are not paired."""
    unpaired_because: str
    """Empty where they are paired."""
    left_out: int
    """Completed episodes of either policy that were not compared."""

    @property
    def difference(self) -> float:
        """Success rate of a less that of b."""
        return self.rate_a - self.rate_b

    @property
    def mirrored(self) -> Contrast:
        """The same comparison with a and b in each other's place."""
        same, pairs = self.equivalence, self.pairs
        return dataclasses.replace(
            self,
            a=self.b,
            b=self.a,
            rate_a=self.rate_b,
            rate_b=self.rate_a,
            episodes_a=self.episodes_b,
            episodes_b=self.episodes_a,
            interval=Interval(-self.interval.high, -self.interval.low),
            equivalence=dataclasses.replace(same, interval=Interval(-same.interval.high, -same.interval.low)),
            pairs=pairs and Pairs(pairs.both, pairs.only_b, pairs.only_a, pairs.neither),
        )

    @property
    def better(self) -> str | None:
        """The policy with the higher rate; None if they are equal."""
        return None if self.rate_a == self.rate_b else self.a if self.rate_a > self.rate_b else self.b


def contrast(
    outcomes: OutcomeMatrix, a: str, b: str, *, margin: float = MARGIN, alpha: float = 0.05
) -> Contrast | None:
    """Compare two policies over all tasks of the outcomes; None where they share no completed task.

    Paired by episode if at least half of what the one with fewer episodes completed has a partner
    that began in the same state: mid-p McNemar, pairs of all tasks added up, with Tango's interval.
    Otherwise unpaired: on one task Barnard's exact test (the score test for many episodes) with
    Miettinen and Nurminen's interval, over tasks the Cochran-Mantel-Haenszel test with Newcombe's.

    Raises:
      ValueError: If a policy has no episode here, or the margin is not in (0, 1).
    """
    (_, done_a), (_, done_b) = outcomes.counts(a), outcomes.counts(b)
    common = [task for task, n, m in zip(outcomes.tasks, done_a, done_b, strict=True) if n and m]
    if not common:
        return None
    here = outcomes.of_tasks(common)
    shared = int(here.shared([a, b]).sum())
    if not here.played_alike(a, b):
        why = "episodes of the same number began in different states"
    elif shared < SHARED * min(sum(done_a), sum(done_b)):
        why = "they played different episodes" if not shared else f"they share only {shared} episodes"
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
    """All pairs of the policies (default: all of the outcomes) that completed a task in common.

    Raises:
      ValueError: As `contrast`.
    """
    pairs = itertools.combinations(policies or outcomes.policies, 2)
    made = (contrast(outcomes, a, b, margin=margin, alpha=alpha) for a, b in pairs)
    return [one for one in made if one is not None]


def family_size(policies: int) -> int:
    """How many pairs of policies there are."""
    return policies * (policies - 1) // 2


def adjusted(found: Sequence[Contrast], looked_at: int) -> list[float]:
    """Holm's p-values of the comparisons, as some of all pairs among the policies looked at."""
    return holm([one.p_value for one in found], family=max(len(found), family_size(looked_at)))


@dataclass(frozen=True)
class Standing:
    """What the comparisons of a row of policies say: who may be told apart from whom."""

    letters: dict[str, str]
    """Policies that share a letter were not found to differ; empty where there was nothing to compare."""
    best: str | None
    """The policy that was found to succeed more often than every other, if there is one."""


def standing(outcomes: OutcomeMatrix, *, looked_at: int | None = None, alpha: float = 0.05) -> Standing:
    """Letters and the best of all policies of the outcomes, at familywise level alpha (Holm)."""
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
    """Least alpha at which the interval of `newcombe_of_means` of confidence 1 - 2 alpha lies in ± margin."""
    low, high = 1e-9, 0.5  # Up to the least of these the interval is refined by halves.
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
