"""Families of comparisons: p-values adjusted for everything that is printed together, and what follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, compress, islice, repeat

import numpy as np

from simloop.results.statistics.contrasts import MARGIN, Contrast, contrasts
from simloop.results.statistics.multiplicity import compact_letters, holm
from simloop.results.statistics.outcome_matrix import OutcomeMatrix
from simloop.results.statistics.pairwise import pair_tests


@dataclass(frozen=True)
class Finding:
    """A comparison and its verdict within a family."""

    contrast: Contrast
    p_adjusted: float
    """Adjusted by Holm for the whole family, with errors counted against the better policy."""
    differ: bool
    """Whether the adjusted p-value is below the level of the family."""
    equivalence_p_adjusted: float | None
    """Of two one-sided tests, adjusted likewise; None under a stopping rule."""
    equivalent: bool
    """Whether the policies are equivalent at the level of the family."""


def family_size(policies: int) -> int:
    """Number of pairs of policies."""
    return policies * (policies - 1) // 2


def comparisons_of(matrices: Iterable[OutcomeMatrix]) -> int:
    """Number of comparisons of a family: all pairs of the policies that were evaluated, in every matrix."""
    return sum(family_size(one.tried) for one in matrices)


def findings(
    matrices: Sequence[OutcomeMatrix], *, margin: float = MARGIN, alpha: float = 0.05
) -> list[list[Finding]]:
    """Compare all pairs of policies in every matrix, as one family: a list for each matrix.

    The probability that any of the differences found does not exist is at most alpha, and the probability that any of
    the policies found equivalent are not is at most alpha. A family is what is printed together: all protocols, suites
    and runs of a table or statement.

    Raises:
      ValueError: As `simloop.results.statistics.contrasts.contrast`.
    """
    size = comparisons_of(matrices)
    made = [contrasts(one, margin=margin, alpha=alpha, family=max(1, size)) for one in matrices]
    every = [one for here in made for one in here]
    found = iter(
        map(_finding, every, adjusted(every, size), _adjusted_equivalence(every, size), repeat(alpha))
    )
    return [list(islice(found, len(here))) for here in made]


def _finding(one: Contrast, p: float, equivalence_p: float | None, alpha: float) -> Finding:
    same = one.equivalence.equivalent if equivalence_p is None else equivalence_p < alpha
    return Finding(one, p, p < alpha, equivalence_p, same)


def _adjusted_equivalence(found: Sequence[Contrast], size: int) -> list[float | None]:
    """p-values of equivalence, adjusted by Holm; those without one are decided at the level alpha / size."""
    known = [one.equivalence.decisive_p_value for one in found]
    made = holm([1.0 if p is None else p for p in known], family=max(len(found), size))
    return [None if p is None else p_adjusted for p, p_adjusted in zip(known, made, strict=True)]


def adjusted(found: Sequence[Contrast], size: int) -> list[float]:
    """p-values of comparisons, adjusted by Holm for a family of `size` comparisons."""
    return holm([one.decisive_p_value for one in found], family=max(len(found), size))


@dataclass(frozen=True)
class Standing:
    """Which policies of a table row differ significantly."""

    letters: dict[str, str]
    """Compact letter display: policies that share a letter were compared and not found to differ.

    Empty without a comparison, and if some policies that were compared with others were not compared with each other.
    A policy that was compared with no other has no letter.
    """
    best: str | None
    """The policy that is significantly better than every other, if there is one."""
    apart: tuple[str, ...] = ()
    """Policies with completed episodes that were not compared with every other."""

    @property
    def differ(self) -> bool:
        """Whether any two policies differ significantly: otherwise all have the same letter."""
        return len(set(self.letters.values())) > 1


NO_STANDING = Standing({}, None)


def standing(outcomes: OutcomeMatrix, found: Sequence[Finding]) -> Standing:
    """Letters and best policy of the policies of a matrix, from the findings about them."""
    met = [(one.contrast.a, one.contrast.b) for one in found]
    won = [one.contrast for one in found if one.differ]
    return _standing(
        outcomes, met, [(one.a, one.b) if one.better == one.a else (one.b, one.a) for one in won]
    )


def standings(matrices: Sequence[OutcomeMatrix], *, alpha: float = 0.05) -> list[Standing]:
    """The same for every matrix, all of them one family, without the estimates that `findings` offers."""
    made = [pair_tests(one) for one in matrices]
    known = [~np.isnan(one.p_values) for one in made]
    p_values = [p for one, here in zip(made, known, strict=True) for p in one.p_values[here].tolist()]
    size = max(len(p_values), comparisons_of(matrices))
    differ = iter(np.array(holm(p_values, family=size)) < alpha)
    places = []
    for outcomes, tests, here in zip(matrices, made, known, strict=True):
        pairs = list(compress(combinations(outcomes.policies, 2), here))
        won = zip(pairs, tests.lead[here], islice(differ, len(pairs)), strict=True)
        beaten = [(a, b) if lead > 0 else (b, a) for (a, b), lead, found in won if found]
        places.append(_standing(outcomes, pairs, beaten))
    return places


def _standing(
    outcomes: OutcomeMatrix, met: Sequence[tuple[str, str]], beaten: Sequence[tuple[str, str]]
) -> Standing:
    """The standing of policies of which those of `met` were compared; of `beaten` the first is better."""
    rates = {
        policy: rate for policy in outcomes.policies if (rate := _mean_rate(outcomes, policy)) is not None
    }
    if len(rates) < 2:
        return NO_STANDING
    order = sorted(rates, key=lambda policy: -rates[policy])
    partners = Counter(chain.from_iterable(met))
    compared = [policy for policy in order if partners[policy]]
    apart = tuple(
        policy for policy in outcomes.policies if policy in rates and partners[policy] < len(order) - 1
    )
    best = order[0] if sum(better == order[0] for better, _ in beaten) == len(order) - 1 else None
    if not met or len(met) < family_size(len(compared)):
        return Standing({}, best, apart)
    return Standing(compact_letters(compared, beaten), best, apart)


def _mean_rate(outcomes: OutcomeMatrix, policy: str) -> float | None:
    """Mean over the tasks of which the policy completed episodes; None if there are none."""
    rates = [x / n for x, n in zip(*outcomes.counts(policy), strict=True) if n]
    return sum(rates) / len(rates) if rates else None
