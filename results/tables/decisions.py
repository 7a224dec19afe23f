"""The decision of a run with a stopping rule, as a sentence to quote."""

from __future__ import annotations

from simloop.results.statistics.early_stopping import SequentialDecision
from simloop.results.tables.statements import percent, signed


def decision_sentence(decision: SequentialDecision) -> str:
    """State what a stopping rule decided, after how many pairs, and how many episodes that saved."""
    a, b, rule = decision.a, decision.b, decision.rule
    if not decision.pairs:
        return f"{a} and {b}: no pair of episodes has been completed yet."
    if decision.rate_b > decision.rate_a:
        better, worse = b, a
    else:
        better, worse = a, b
    level = f"at level {rule.alpha:g}, valid at every look"
    after = f"after {decision.pairs} of at most {rule.max_pairs} pairs"
    numbers = (
        f"{a} {percent(decision.rate_a)}, {b} {percent(decision.rate_b)}, {a} less {b} between "
        f"{signed(decision.interval.low)} and {signed(decision.interval.high)} points at any time, "
        f"e-value {decision.e_values[-1]:.3g}"
    )
    margin = f"± {100 * rule.margin:g} points"
    sentence = {
        "differ": f"{better} succeeds more often than {worse}: decided {after}, {level}; {numbers}.",
        "equivalent": f"{a} and {b} are equivalent within {margin}: decided {after}, {level}; {numbers}.",
        "undecided": f"{a} and {b}: undecided {after}; neither a difference nor equivalence within {margin} was "
        f"shown; {numbers}.",
        "continue": f"{a} and {b}: not decided yet, {after}; {numbers}.",
    }[decision.decision]
    if decision.left_out:
        sentence += f" {decision.left_out} pairs with an error are left out."
    if decision.saved:
        sentence += f" {decision.saved} of {decision.planned} planned episodes were not needed."
    return sentence
