"""Decisions of runs with a stopping rule.

The rule and the order of the pairs are recorded in `config.json` before the first episode. The decision depends only
on the outcomes in that order, so it is the same for any number of env actors and after any interruption. Episodes
that were in progress when it was reached stay in the ledger and do not change it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from simloop.results.records.records import Outcome, policy_name
from simloop.results.records.runs import Runs
from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.sequential import Decision, StoppingRule, difference_sequence, e_process

Pair = tuple[str, int]
"""(task, episode): one episode of either policy."""


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


def outcomes_in_order(
    order: Sequence[Pair], a: str, b: str, outcome: Callable[[str, str, int], Outcome | None]
) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"], int]:
    """Whether a, and b, succeeded in each pair up to the first unfinished one, and the number of skipped pairs.

    Pairs with an error carry no information about the policies and are skipped.

    Args:
      outcome: Returns the outcome of (policy, task, episode); None if it has not finished.
    """
    found: list[tuple[bool, bool]] = []
    skipped = 0
    for task, episode in order:
        one, other = outcome(a, task, episode), outcome(b, task, episode)
        if one is None or other is None:
            break
        if "error" in (one, other):
            skipped += 1
        else:
            found.append((one == "success", other == "success"))
    pairs = np.array(found, bool).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], skipped


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
    one, other, skipped = outcomes_in_order(order, a, b, lambda *key: known.get(key))
    decision, used = rule.decide(one, other)
    if decision == "continue" and len(one) + skipped == len(order):
        decision = "undecided"
    one, other = one[:used], other[:used]
    low, high = difference_sequence(one, other, confidence=1 - rule.alpha)
    return SequentialDecision(
        a,
        b,
        str(episodes["suite"].iloc[0]),
        str(episodes["protocol"].iloc[0]),
        rule,
        decision,
        used,
        skipped,
        float(one.mean()) if used else float("nan"),
        float(other.mean()) if used else float("nan"),
        tuple(e_process(one, other).tolist()),
        Interval(float(low[-1]), float(high[-1])) if used else Interval(-1.0, 1.0),
        2 * len(order),
        len(episodes),
    )
