"""Families of comparisons: p-values adjusted for everything that is printed together, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simloop.results.statistics.contrasts import MARGIN, Contrast, contrasts
from simloop.results.statistics.multiplicity import compact_letters, holm
from simloop.results.statistics.outcome_matrix import OutcomeMatrix


@dataclass(frozen=True)
class Finding:
    """A comparison and its verdict within a family."""

    contrast: Contrast
    p_adjusted: float
    """Adjusted by Holm for the whole family, with errors counted against the better policy."""
    differ: bool
    """Whether the adjusted p-value is below the level of the family."""


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

    The probability that any of the differences found does not exist is at most alpha. A family is what is printed
    together: all protocols, suites and runs of a table or statement.

    Raises:
      ValueError: As `simloop.results.statistics.contrasts.contrast`.
    """
    made = [contrasts(one, margin=margin, alpha=alpha) for one in matrices]
    p_values = iter(adjusted([c for here in made for c in here], comparisons_of(matrices)))
    return [[Finding(c, p := next(p_values), p < alpha) for c in here] for here in made]


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
    rates = {
        policy: rate for policy in outcomes.policies if (rate := _mean_rate(outcomes, policy)) is not None
    }
    if len(rates) < 2:
        return NO_STANDING
    order = sorted(rates, key=lambda policy: -rates[policy])
    met = {frozenset((one.contrast.a, one.contrast.b)) for one in found}
    compared = [policy for policy in order if any(policy in pair for pair in met)]
    partners = {policy: sum(policy in pair for pair in met) for policy in order}
    apart = tuple(policy for policy in outcomes.policies if partners.get(policy, len(order)) < len(order) - 1)
    differ = [one.contrast for one in found if one.differ]
    beaten = sum(one.better == order[0] for one in differ)
    best = order[0] if beaten == len(order) - 1 else None
    if not met or len(met) < family_size(len(compared)):
        return Standing({}, best, apart)
    return Standing(compact_letters(compared, [(one.a, one.b) for one in differ]), best, apart)


def _mean_rate(outcomes: OutcomeMatrix, policy: str) -> float | None:
    """Mean over the tasks of which the policy completed episodes; None if there are none."""
    rates = [x / n for x, n in zip(*outcomes.counts(policy), strict=True) if n]
    return sum(rates) / len(rates) if rates else None
