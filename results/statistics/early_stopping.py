"""Decisions of runs with a stopping rule.

The rule and the order of the pairs are recorded in `config.json` before the first episode. The decision depends only
on the outcomes in that order, so it is the same for any number of env actors and after any interruption. Episodes
that were in progress when it was reached stay in the ledger and do not change it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from simloop.results.records.records import Outcome
from simloop.results.records.runs import Runs
from simloop.results.records.written_policies import policy_name
from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.outcome_matrix import OutcomeMatrix, Pair, outcome_matrices
from simloop.results.statistics.sequential import Decision, StoppingRule, difference_sequence, e_process


@dataclass(frozen=True)
class SequentialDecision:
    """The decision of a run with a stopping rule, and the evidence for it."""

    a: str
    b: str
    suite: str
    protocol: str
    rule: StoppingRule
    decision: Decision
    pairs: int
    """Number of pairs of completed episodes used for the decision."""
    left_out: int
    """Number of pairs skipped before the decision because an episode ended in an error."""
    e_value_with_errors: float
    """The largest e-value so far, if the errors of the better policy were failures and those of the other successes; 0
    if the other were then better."""
    order: tuple[Pair, ...]
    """All pairs in order: up to the decision, if there is one."""
    rate_a: float
    rate_b: float
    """Success rates in the pairs used; nan if there are none."""
    e_values: tuple[float, ...]
    """The e-value after each of the pairs used."""
    interval: Interval
    """Of the difference, a less b, from the confidence sequence: valid at any time."""
    planned: int
    """Number of episodes of both policies in the plan."""
    played: int
    """Number of finished episodes of both policies."""

    @property
    def saved(self) -> int:
        """Number of planned episodes that the decision made unnecessary; 0 without a decision."""
        return self.planned - self.played if self.decision in ("differ", "equivalent") else 0


@dataclass(frozen=True)
class PairsInOrder:
    """Outcomes of the pairs up to the first unfinished one."""

    a: Bool[np.ndarray, "n"]
    """Whether policy a succeeded, in the pairs that both policies completed."""
    b: Bool[np.ndarray, "n"]
    position: Int[np.ndarray, "n"]
    """Of each completed pair in the order."""
    finished: int
    """Number of finished pairs, with those in which an episode ended in an error."""


def outcomes_in_order(
    order: Sequence[Pair],
    a: str,
    b: str,
    outcome: Callable[[str, str, int], Outcome | None],
    errors: tuple[Outcome, Outcome] = ("error", "error"),
) -> PairsInOrder:
    """Collect the outcomes of a and b in each pair up to the first unfinished one; pairs with an error are skipped.

    Args:
      outcome: Returns the outcome of (policy, task, episode); None if it has not finished.
      errors: What an error of a, and of b, counts as.
    """
    found: list[tuple[int, bool, bool]] = []
    finished = 0
    for task, episode in order:
        one, other = outcome(a, task, episode), outcome(b, task, episode)
        if one is None or other is None:
            break
        one, other = (errors[0] if one == "error" else one), (errors[1] if other == "error" else other)
        if "error" not in (one, other):
            found.append((finished, one == "success", other == "success"))
        finished += 1
    pairs = np.array(found, np.int64).reshape(-1, 3)
    return PairsInOrder(pairs[:, 1] == 1, pairs[:, 2] == 1, pairs[:, 0], finished)


def matrices(
    runs: Runs, policies: Sequence[str] | None = None, *, looked_at: int | None = None
) -> dict[tuple[str, str], OutcomeMatrix]:
    """Outcome matrices of runs by (suite, protocol), which know the stopping rules and all evaluated policies.

    Args:
      policies: Columns of the matrices, in this order; default: all policies of the runs.
      looked_at: Number of policies and checkpoints that were evaluated everywhere, if more than the runs hold.
    """
    orders: dict[tuple[str, str], list[tuple[frozenset[str], Sequence[Pair]]]] = {}
    for one in sequential_decisions(runs):
        orders.setdefault((one.suite, one.protocol), []).append((frozenset((one.a, one.b)), one.order))
    for (
        plan
    ) in runs.plans:  # Without a recorded order there are no pairs that could be compared at any number.
        if plan.stops_early == "rule" and (key := (plan.suite, plan.protocol)) not in orders:
            orders[key] = [(frozenset(plan.policies), ())]
    found = outcome_matrices(runs.episodes, policies or runs.policies, orders)
    return {
        key: replace(one, evaluated=max(looked_at or 0, runs.evaluated(*key))) for key, one in found.items()
    }


def sequential_decisions(runs: Runs) -> list[SequentialDecision]:
    """The decisions of the runs that had a stopping rule, in their order."""
    found = []
    for number, (source, config) in enumerate(zip(runs.sources, runs.configs, strict=True)):
        experiment = config.get("experiment", {})
        if not experiment.get("stopping") or "pairs" not in config:
            continue
        episodes = runs.episodes[runs.episodes["run"] == number]
        if episodes.empty:
            continue
        a, b = (source.policy(policy_name(written)) for written in experiment["policies"])
        order = [(str(task), int(episode)) for task, episode in config["pairs"]]
        found.append(_decision(episodes, a, b, order, StoppingRule(**experiment["stopping"])))
    return found


def _decision(
    episodes: pd.DataFrame, a: str, b: str, order: Sequence[Pair], rule: StoppingRule
) -> SequentialDecision:
    names = ("policy", "task", "episode", "outcome")
    known = {
        (policy, task, episode): outcome
        for policy, task, episode, outcome in zip(*(episodes[name] for name in names), strict=True)
    }

    def outcome(policy: str, task: str, episode: int) -> Outcome | None:
        return known.get((policy, task, episode))

    pairs = outcomes_in_order(order, a, b, outcome)
    decision, used = rule.decide(pairs.a, pairs.b)
    if decision == "continue" and pairs.finished == len(order):
        decision = "undecided"
    one, other = pairs.a[:used], pairs.b[:used]
    low, high = difference_sequence(one, other, confidence=1 - rule.alpha)
    until = int(pairs.position[used - 1]) + 1 if decision in ("differ", "equivalent") else pairs.finished
    decided = order[:until] if decision in ("differ", "equivalent") else order
    worst = outcomes_in_order(
        decided, a, b, outcome, ("failure", "success") if one.sum() > other.sum() else ("success", "failure")
    )
    lasting = (worst.a.sum() > worst.b.sum()) == (one.sum() > other.sum())
    return SequentialDecision(
        a,
        b,
        str(episodes["suite"].iloc[0]),
        str(episodes["protocol"].iloc[0]),
        rule,
        decision,
        used,
        until - used,
        float(e_process(worst.a, worst.b).max(initial=0.0)) if lasting else 0.0,
        tuple(decided),
        float(one.mean()) if used else float("nan"),
        float(other.mean()) if used else float("nan"),
        tuple(e_process(one, other).tolist()),
        Interval(float(low[-1]), float(high[-1])) if used else Interval(-1.0, 1.0),
        2 * len(order),
        len(episodes),
    )
