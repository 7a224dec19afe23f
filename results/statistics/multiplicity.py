"""Many comparisons at once: p-values that stay honest, and letters that show what differs."""

from __future__ import annotations

import string
from collections.abc import Collection, Sequence

import numpy as np


def holm(p_values: Sequence[float], *, family: int | None = None) -> list[float]:
    """Adjusted p-values, in the order given: those below a level are all true with that certainty.

    Needs no assumption on how the comparisons depend on each other.

    Args:
      family: How many comparisons could have been reported, if more than are. That of those which are not
        shown some may have had smaller p-values only makes the adjustment larger than need be.

    Raises:
      ValueError: If a value is not in [0, 1], or the family is smaller than what is reported.

    Reference: S. Holm (1979), https://www.jstor.org/stable/4615733.
    """
    wrong = [p for p in p_values if not 0 <= p <= 1]
    if wrong:
        raise ValueError(f"p-values lie in [0, 1]; got {wrong}.")
    count = len(p_values) if family is None else family
    if count < len(p_values):
        raise ValueError(f"A family of {count} comparisons cannot hold {len(p_values)} of them.")
    if not p_values:
        return []
    # statsmodels' multipletests gives the same, but collects garbage at every call, which takes a tenth of a
    # second in a process that holds a model. Comparisons that are not shown would stand behind all others.
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * (count - np.arange(len(p_values))))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def compact_letters(names: Sequence[str], different: Collection[tuple[str, str]]) -> dict[str, str]:
    """Letters such that two names share one exactly if they were not found to differ.

    List the best first, and it gets the letter a.

    >>> compact_letters(["pi0.5", "pi0", "random"], [("pi0.5", "random"), ("pi0", "random")])
    {'pi0.5': 'a', 'pi0': 'a', 'random': 'b'}

    Raises:
      ValueError: If a pair holds an unknown name or one name twice, or letters run out.

    Reference: insert and absorb, H.-P. Piepho (2004), doi:10.1198/1061860043515.
    """
    for a, b in different:
        if a == b or not {a, b} <= set(names):
            raise ValueError(f"Wanted pairs of two of {list(names)}; got {(a, b)}.")
    # Each group will share a letter. It may not hold two names that differ.
    groups = [frozenset(names)]
    for a, b in different:
        split = [
            part for group in groups for part in ([group - {a}, group - {b}] if {a, b} <= group else [group])
        ]
        distinct = list(dict.fromkeys(split))
        groups = [group for group in distinct if not any(group < other for other in distinct)]
    order = {name: place for place, name in enumerate(names)}
    groups.sort(key=lambda group: sorted(order[name] for name in group))
    if len(groups) > len(string.ascii_letters):
        raise ValueError(f"{len(groups)} groups need more letters than there are. Compare fewer policies.")
    return {
        name: "".join(
            letter for letter, group in zip(string.ascii_letters, groups, strict=False) if name in group
        )
        for name in names
    }
