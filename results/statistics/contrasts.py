"""Comparison of two policies: paired where episodes are shared, otherwise unpaired."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from jaxtyping import Int

from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.outcome_matrix import OutcomeMatrix
from simloop.results.statistics.paired import (
    Equivalence,
    Pairs,
    equivalence,
    mcnemar_exact,
    mcnemar_mid_p,
    tango,
)
from simloop.results.statistics.sequential import difference_sequence, e_process, within_margin
from simloop.results.statistics.unpaired import (
    EXACT_TABLES,
    cochran_mantel_haenszel,
    difference_of_means,
    margin_p_of_means,
    margin_p_value,
    miettinen_nurminen,
    newcombe_of_means,
    unpaired_p_value,
)

MARGIN = 0.02  # Two points of success: a smaller difference neither recommends a policy nor refutes a reproduction.

# With a smaller share of episodes in pairs, dropping the others costs more power than pairing gains.
SHARED = 0.5


@dataclass(frozen=True)
class Estimates:
    """What a statement shows beside the test; letters do without."""

    interval: Interval
    """95 % interval of the difference, a less b; a confidence sequence with a stopping rule."""
    exact_p_value: float | None
    """Of the exact McNemar test; None if episodes are not paired, or with a stopping rule."""
    equivalence: Equivalence

    @property
    def mirrored(self) -> Estimates:
        """Those of b less a."""
        same = self.equivalence
        return Estimates(
            self.interval.scaled(-1.0),
            self.exact_p_value,
            dataclasses.replace(same, interval=same.interval.scaled(-1.0)),
        )


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
    """Over the episodes compared, with equal weights of tasks; of pairs with a stopping rule."""
    episodes_a: int
    episodes_b: int
    interval_method: str
    p_value: float
    """Two-sided p-value of equal rates on every task, not adjusted for other comparisons."""
    test: str
    estimate: Callable[[], Estimates] = field(repr=False, compare=False)
    """Computes the estimates, which take a hundred times as long as the test."""
    pairs: Pairs | None
    """None if episodes are not paired."""
    unpaired_because: str
    """Reason for an unpaired comparison; empty if episodes are paired."""
    left_out: int
    """Number of completed episodes of either policy that were not compared."""
    anytime: bool = False
    """Whether a stopping rule decides the number of episodes: the test and the interval then hold at every look."""
    errors_a: int = 0
    errors_b: int = 0
    p_value_with_errors: float = 0.0
    """As `p_value` if the errors of the better policy were failures and those of the other successes; 1 if the other
    were then better. 0 without errors."""

    @cached_property
    def _estimates(self) -> Estimates:
        return self.estimate()

    @property
    def interval(self) -> Interval:
        """95 % interval of the difference, a less b; a confidence sequence with a stopping rule."""
        return self._estimates.interval

    @property
    def exact_p_value(self) -> float | None:
        """Of the exact McNemar test; None if episodes are not paired, or with a stopping rule."""
        return self._estimates.exact_p_value

    @property
    def equivalence(self) -> Equivalence:
        """Two one-sided tests, or a confidence sequence with a stopping rule."""
        return self._estimates.equivalence

    @property
    def decisive_p_value(self) -> float:
        """The p-value that decides whether the policies differ, whatever the errors would have been."""
        return max(self.p_value, self.p_value_with_errors)

    @property
    def difference(self) -> float:
        """Success rate of a less that of b."""
        return self.rate_a - self.rate_b

    @property
    def mirrored(self) -> Contrast:
        """The same comparison with a and b swapped."""
        pairs = self.pairs
        return dataclasses.replace(
            self,
            a=self.b,
            b=self.a,
            rate_a=self.rate_b,
            rate_b=self.rate_a,
            episodes_a=self.episodes_b,
            episodes_b=self.episodes_a,
            errors_a=self.errors_b,
            errors_b=self.errors_a,
            estimate=lambda: self._estimates.mirrored,
            pairs=pairs and Pairs(pairs.both, pairs.only_b, pairs.only_a, pairs.neither),
        )

    @property
    def better(self) -> str | None:
        """The policy with the higher rate; None if they are equal."""
        return None if self.rate_a == self.rate_b else self.a if self.rate_a > self.rate_b else self.b


def contrast(
    outcomes: OutcomeMatrix,
    a: str,
    b: str,
    *,
    margin: float = MARGIN,
    alpha: float = 0.05,
    family: int = 1,
) -> Contrast | None:
    """Compare two policies over all tasks of the outcomes; None if they cannot be compared.

    Episodes are paired if at least half of the completed episodes of the policy with fewer of them have a partner
    from the same initial state: mid-p McNemar test on the pairs of all tasks, with Tango's interval. Otherwise they
    are unpaired: on one task Barnard's exact test (the score test for many episodes) with Miettinen and Nurminen's
    interval, over several tasks the exact Cochran-Mantel-Haenszel test with Newcombe's interval. If a stopping rule
    decides how many episodes a policy plays, the pairs are compared by the e-process and the confidence sequence of
    the difference, in the order that was fixed in advance.

    Policies cannot be compared without completed episodes of a common task; under a stopping rule, without pairs.

    Errors carry no information about a policy unless it causes them, which the records do not show. The rates are over
    completed episodes, but policies differ, and are equivalent, only if they would be so whatever the errors were.

    Args:
      margin: Margin of equivalence, a difference of rates.
      alpha: Level of the test of equivalence.
      family: Number of comparisons of which this is one. A confidence sequence has no p-value that could be adjusted
        later, so that equivalence under a stopping rule is decided at the level alpha / family.

    Raises:
      ValueError: If a policy has no episode in the matrix, or the margin is not in (0, 1).
    """
    if not 0 < margin < 1:
        raise ValueError(f"Wanted a margin of equivalence in (0, 1); got {margin}.")
    made = _completed(outcomes, a, b, margin, alpha, family)
    errors = outcomes.errors(a), outcomes.errors(b)
    if made is None or not any(errors):
        return made
    # The errors of one policy as failures and those of the other as successes: first against a, then against b.
    extremes = [
        _completed(outcomes.with_errors_as({a: x, b: 1 - x}), a, b, margin, alpha, family) for x in (0.0, 1.0)
    ]
    worst = extremes[0 if made.better == a else 1]
    lasting = worst is not None and made.better is not None and worst.better == made.better
    return dataclasses.replace(
        made,
        errors_a=errors[0],
        errors_b=errors[1],
        p_value_with_errors=worst.p_value if worst is not None and lasting else 1.0,
        estimate=partial(_whatever_the_errors, made, extremes),
    )


def _whatever_the_errors(made: Contrast, extremes: Sequence[Contrast | None]) -> Estimates:
    """The estimates of completed episodes, with equivalence only if it also holds in the extremes."""
    same = [one is not None and one.equivalence.equivalent for one in (made, *extremes)]
    p_values = [1.0 if one is None else one.equivalence.p_value or 0.0 for one in extremes]
    equivalence = dataclasses.replace(
        made.equivalence, equivalent=all(same), p_value_with_errors=max(p_values)
    )
    return Estimates(made.interval, made.exact_p_value, equivalence)


def _completed(
    outcomes: OutcomeMatrix, a: str, b: str, margin: float, alpha: float, family: int
) -> Contrast | None:
    """Compare the completed episodes of two policies."""
    (_, done_a), (_, done_b) = outcomes.counts(a), outcomes.counts(b)
    common = [task for task, n, m in zip(outcomes.tasks, done_a, done_b, strict=True) if n and m]
    if not common:
        return None
    here = outcomes.of_tasks(common)
    completed = sum(done_a) + sum(done_b)
    rows = here.in_order(a, b)
    if rows is not None:
        rows = rows[here.shared([a, b])[rows]]
        if not len(rows) or not here.same_seeds(a, b):
            return None
        return _sequential(here, a, b, rows, completed - 2 * len(rows), margin, alpha / family)
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
        return _paired(here, a, b, completed - 2 * shared, margin, alpha)
    return _unpaired(here, a, b, why, completed, margin, alpha)


def contrasts(
    outcomes: OutcomeMatrix,
    policies: Sequence[str] | None = None,
    *,
    margin: float = MARGIN,
    alpha: float = 0.05,
    family: int = 1,
) -> list[Contrast]:
    """Compare all pairs of policies (default: all of the matrix) that can be compared.

    Raises:
      ValueError: As `contrast`.
    """
    pairs = itertools.combinations(policies or outcomes.policies, 2)
    made = (contrast(outcomes, a, b, margin=margin, alpha=alpha, family=family) for a, b in pairs)
    return [one for one in made if one is not None]


def _paired(outcomes: OutcomeMatrix, a: str, b: str, left_out: int, margin: float, alpha: float) -> Contrast:
    by_task = {
        task: own for task, own in zip(outcomes.tasks, outcomes.pairs(a, b), strict=True) if own.episodes
    }
    pairs, n = sum(by_task.values(), Pairs()), len(by_task)
    weighted = Pairs.task_weighted(list(by_task.values()))
    return Contrast(
        outcomes.suite,
        outcomes.protocol,
        tuple(by_task),
        a,
        b,
        rate_a=sum((own.both + own.only_a) / own.episodes for own in by_task.values()) / n,
        rate_b=sum((own.both + own.only_b) / own.episodes for own in by_task.values()) / n,
        episodes_a=int(pairs.episodes),
        episodes_b=int(pairs.episodes),
        interval_method="Tango",
        p_value=_in_direction(mcnemar_mid_p(pairs), weighted.difference, pairs.difference),
        test="mid-p McNemar" + (f" over {n} tasks" if n > 1 else ""),
        estimate=lambda: Estimates(
            tango(weighted),
            _in_direction(mcnemar_exact(pairs), weighted.difference, pairs.difference),
            equivalence(weighted, margin, alpha=alpha),
        ),
        pairs=pairs,
        unpaired_because="",
        left_out=left_out,
    )


def _in_direction(p_value: float, difference: float, tested: float) -> float:
    """The p-value if the mean over tasks and the tested sum over episodes favour the same policy, otherwise 1.

    The two weigh tasks differently if their numbers of episodes differ.
    """
    return p_value if difference * tested > 0 else 1.0


def _sequential(
    outcomes: OutcomeMatrix,
    a: str,
    b: str,
    rows: Int[np.ndarray, "r"],
    left_out: int,
    margin: float,
    alpha: float,
) -> Contrast:
    """Compare pairs in the order that was fixed in advance, at a number of pairs that a rule decides."""
    one, other = (outcomes.success[rows, outcomes.column(policy)] == 1 for policy in (a, b))
    n = len(rows)

    def estimate() -> Estimates:
        outer, inner = (
            Interval(*(float(ends[-1]) for ends in difference_sequence(one, other, confidence=confidence)))
            for confidence in (0.95, 1 - alpha)
        )
        same = bool(within_margin(one, other, margin, alpha=alpha)[-1])
        return Estimates(outer, None, Equivalence(margin, inner, 1 - alpha, None, same))

    tasks = tuple(outcomes.tasks[task] for task in np.unique(outcomes.task[rows]))
    both, only_a, only_b = int((one & other).sum()), int((one & ~other).sum()), int((~one & other).sum())
    return Contrast(
        outcomes.suite,
        outcomes.protocol,
        tasks,
        a,
        b,
        rate_a=float(one.mean()),
        rate_b=float(other.mean()),
        episodes_a=n,
        episodes_b=n,
        interval_method="confidence sequence",
        p_value=min(1.0, 1 / float(e_process(one, other).max())),
        test="e-process" + (f" over {len(tasks)} tasks" if len(tasks) > 1 else ""),
        estimate=estimate,
        pairs=Pairs(both, only_a, only_b, n - both - only_a - only_b),
        unpaired_because="",
        left_out=left_out,
        anytime=True,
    )


def _unpaired(
    outcomes: OutcomeMatrix, a: str, b: str, why: str, completed: int, margin: float, alpha: float
) -> Contrast:
    (x_a, n_a), (x_b, n_b) = outcomes.counts(a), outcomes.counts(b)
    if len(outcomes.tasks) == 1:
        table = (x_a[0], n_a[0], x_b[0], n_b[0])
        few = (n_a[0] + 1) * (n_b[0] + 1) <= EXACT_TABLES
        test, p_value = "Barnard's exact test" if few else "score test", unpaired_p_value(*table)
        interval_method, interval = "Miettinen-Nurminen", partial(miettinen_nurminen, *table)
        margin_p = partial(margin_p_value, *table, margin)
    else:
        test = f"exact Cochran-Mantel-Haenszel test over {len(outcomes.tasks)} tasks"
        p_value = cochran_mantel_haenszel(x_a, n_a, x_b, n_b)
        p_value = _in_direction(p_value, difference_of_means(x_a, n_a, x_b, n_b), _excess(x_a, n_a, x_b, n_b))
        interval_method, interval = "Newcombe", partial(newcombe_of_means, x_a, n_a, x_b, n_b)
        margin_p = partial(margin_p_of_means, x_a, n_a, x_b, n_b, margin)

    def estimate() -> Estimates:
        confidence, p = 1 - 2 * alpha, margin_p()
        inner = interval(confidence=confidence)
        return Estimates(interval(), None, Equivalence(margin, inner, confidence, p, p < alpha))

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
        interval_method=interval_method,
        p_value=p_value,
        test=test,
        estimate=estimate,
        pairs=None,
        unpaired_because=why,
        left_out=completed - sum(n_a) - sum(n_b),
    )


def _excess(x_a: list[int], n_a: list[int], x_b: list[int], n_b: list[int]) -> float:
    """Successes of a beyond those expected at equal rates on every task."""
    return sum(x - n * (x + y) / (n + m) for x, n, y, m in zip(x_a, n_a, x_b, n_b, strict=True))
