"""Multiple comparisons: Holm's adjustment of p-values, and the compact letter display."""

from __future__ import annotations

import string
from collections.abc import Collection, Sequence

import numpy as np


def holm(p_values: Sequence[float], *, family: int | None = None) -> list[float]:
    """Adjust p-values by Holm's step-down procedure, in the order given.

    If every p-value is valid (below any level x with a probability of at most x where its hypothesis is true),
    rejecting all hypotheses with an adjusted p-value below alpha keeps the family-wise error rate, the probability of
    any false rejection, at alpha or below, whatever the dependence between the comparisons. It holds for the family
    alone: several families have one such probability each.

    Args:
      family: Number of comparisons of the family, if more than are given. The adjusted p-values are then at least
        those that all p-values of the family would give, whatever the others are.

    Raises:
      ValueError: If a value is not in [0, 1], or the family is smaller than what is reported.

    Reference: S. Holm (1979), https://www.jstor.org/stable/4615733.
    """
    wrong = [p for p in p_values if not 0 <= p <= 1]
    if wrong:
        raise ValueError(f"p-values lie in [0, 1]; got {wrong}.")
    count = len(p_values) if family is None else family
    if count < len(p_values):
        raise ValueError(
            f"Wanted a family of at least {len(p_values)} comparisons, as many as p-values; got {count}."
        )
    if not p_values:
        return []
    # statsmodels' multipletests computes the same, but collects garbage at every call: 0.1 s in a large process.
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * (count - np.arange(len(p_values))))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def compact_letters(names: Sequence[str], different: Collection[tuple[str, str]]) -> dict[str, str]:
    """Assign letters such that two names share a letter if and only if they do not differ significantly.

    The first name has the letter a, so list the best first.

    >>> compact_letters(["pi0.5", "pi0", "random"], [("pi0.5", "random"), ("pi0", "random")])
    {'pi0.5': 'a', 'pi0': 'a', 'random': 'b'}

    Raises:
      ValueError: If a pair holds an unknown name or one name twice, or more than 52 letters are needed.

    Reference: insert and absorb, H.-P. Piepho (2004), doi:10.1198/1061860043515.
    """
    for a, b in different:
        if a == b or not {a, b} <= set(names):
            raise ValueError(f"Wanted pairs of two of {list(names)}; got {(a, b)}.")
    # Each group shares a letter, so it must not hold two names that differ.
    groups = [frozenset(names)]
    for a, b in different:
        kept = [group for group in groups if not {a, b} <= group]
        parts = dict.fromkeys(group - {name} for group in groups if {a, b} <= group for name in (a, b))
        # No group was within another, so only the parts may be.
        groups = kept + [part for part in parts if not any(part < other for other in (*kept, *parts))]
    order = {name: i for i, name in enumerate(names)}
    groups.sort(key=lambda group: sorted(order[name] for name in group))
    if len(groups) > len(string.ascii_letters):
        raise ValueError(f"{len(groups)} groups need more letters than there are. Compare fewer policies.")
    return {
        name: "".join(
            letter for letter, group in zip(string.ascii_letters, groups, strict=False) if name in group
        )
        for name in names
    }
