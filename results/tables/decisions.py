"""Decisions of stopping rules, and checks for lost success, as sentences to quote."""

from __future__ import annotations

from simloop.results.statistics.early_stopping import SequentialDecision
from simloop.results.statistics.regressions import Regression
from simloop.results.tables.statements import counted, percent, signed


def decision_sentence(found: SequentialDecision, decisions: int = 1) -> str:
    """State what a stopping rule decided, after how many pairs, and how many episodes that saved.

    Args:
      decisions: Number of decisions that are printed together; the level of each holds for it alone.
    """
    a, b, rule = found.a, found.b, found.rule
    if not found.pairs:
        return f"{a} and {b}: no pair of episodes has been completed yet."
    better, worse = (b, a) if found.rate_b > found.rate_a else (a, b)
    after = f"after {found.pairs} of at most {rule.max_pairs} pairs"
    alone = " of this run alone" if decisions > 1 else ""
    decided = f"decided {after}, at level {rule.alpha:g}{alone}, valid at every look"
    margin = f"± {100 * rule.margin:g} points"
    verdict = {
        # The null hypothesis is equal rates on every task, so the decision is not about the mean rates alone.
        "differ": f"{better} and {worse} differ on these tasks, {better} succeeding more often: {decided}",
        "equivalent": f"{a} and {b} are equivalent within {margin}: {decided}",
        "undecided": f"{a} and {b}: undecided {after}; neither a difference nor equivalence within {margin} was shown",
        "continue": f"{a} and {b}: undecided so far, {after}",
    }[found.decision]
    low, high = signed(found.interval.low), signed(found.interval.high)
    sentence = (
        f"{verdict}; {a} {percent(found.rate_a)}, {b} {percent(found.rate_b)}, {a} less {b} between {low} and {high} "
        f"points at any time, e-value {found.e_values[-1]:.3g}."
    )
    if found.left_out:
        sentence += f" Left out: {counted(found.left_out, 'pair')} with an error"
        if found.decision == "differ" and found.e_value_with_errors < 1 / rule.alpha:
            sentence += (
                f", which may decide: with errors of {better} as failures and those of {worse} as successes, the "
                f"e-value is at most {found.e_value_with_errors:.3g}"
            )
        sentence += "."
    if found.saved:
        sentence += f" {found.saved} of {found.planned} planned episodes were not needed."
    return sentence


def regression_sentence(found: Regression) -> str:
    """State whether a policy is worse than a baseline by more than the margin of a check."""
    verdict = {
        "worse": f"{found.policy} is worse than {found.baseline}",
        "not worse": f"{found.policy} is not worse than {found.baseline}",
        "inconclusive": f"Inconclusive whether {found.policy} is worse than {found.baseline}",
    }[found.verdict]
    low, high = signed(found.interval.low), signed(found.interval.high)
    valid = ", valid at every look" if found.anytime else ""
    return (
        f"{verdict} by more than {100 * found.margin:g} points: {signed(found.difference)} points, between {low} and "
        f"{high} ({100 * found.confidence:.4g} % interval{valid}), protocol {found.protocol}."
    )
