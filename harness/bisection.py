"""Find where along training success was lost, with tests that stay valid at every look."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console

from simloop.harness.planning.experiment import Experiment, ExperimentError
from simloop.harness.preparation import RunSettings
from simloop.harness.run import RunResult, run
from simloop.results.records.runs import load_runs
from simloop.results.statistics.early_stopping import SequentialDecision, sequential_decisions
from simloop.results.statistics.sequential import StoppingRule

Verdict = Literal["lost", "kept", "undecided"]


@dataclass(frozen=True)
class Bisection:
    """Between which checkpoints success was lost."""

    verdicts: dict[int, Verdict] = field(default_factory=dict)
    """Of the checkpoints that were compared with the first one, by their place."""
    good: int = 0
    """Place of the last checkpoint before the loss that is not known to have lost."""
    bad: int | None = None
    """Place of the first checkpoint that was found to succeed less than the first one; None if none was."""

    @property
    def undecided(self) -> tuple[int, ...]:
        """Places between `good` and `bad` of which neither was shown; without a loss, all undecided ones."""
        return tuple(
            place
            for place, verdict in sorted(self.verdicts.items())
            if verdict == "undecided" and (self.bad is None or self.good < place < self.bad)
        )


def bisect(checkpoints: int, compare: Callable[[int], Verdict]) -> Bisection:
    """Search for the earliest checkpoint that lost success against the first one, assuming that a loss is permanent.

    The last one is compared first. Undecided ones do not narrow the search; others near the middle are tried.

    Args:
      checkpoints: Number of checkpoints, in the order of training.
      compare: Compares the checkpoint at a place with the first one.
    """
    verdicts = {checkpoints - 1: compare(checkpoints - 1)}
    if verdicts[checkpoints - 1] != "lost":
        return Bisection(verdicts, good=checkpoints - 1)
    good, bad = 0, checkpoints - 1
    while left := [place for place in range(good + 1, bad) if place not in verdicts]:
        middle = min(left, key=lambda place: (abs(2 * place - good - bad), place))
        verdicts[middle] = compare(middle)
        if verdicts[middle] == "lost":
            bad = middle
        elif verdicts[middle] == "kept":
            good = middle
    return Bisection(verdicts, good, bad)


def bisect_checkpoints(
    experiment: Experiment, out: Path, settings: RunSettings, rule: StoppingRule, console: Console
) -> Bisection | RunResult:
    """Bisect the policies of an experiment, which are in the order of training.

    Every comparison is a run of its own that stops once it is decided, in a folder of `out` that is resumed. The level
    is divided by the number of checkpoints that could be compared, so that the probability that any is said to have
    lost although it is as good as the first one is at most `rule.alpha`.

    Returns:
      Between which checkpoints success was lost, or the result of a run that was interrupted.

    Raises:
      ExperimentError: If there are fewer than two policies.
    """
    policies = experiment.policies
    if len(policies) < 2:
        raise ExperimentError(f"simloop bisect takes two checkpoints or more; got {len(policies)}.")
    shared = dataclasses.replace(rule, alpha=rule.alpha / (len(policies) - 1))

    def compare(place: int) -> Verdict:
        pair = dataclasses.replace(experiment, policies=(policies[0], policies[place]), stopping=shared)
        result = run(pair, out / f"{place:03d}", settings, console)
        if result.interrupted:
            raise _InterruptedError(result)
        (decision,) = sequential_decisions(load_runs(result.folder))
        return verdict_of(decision)

    try:
        return bisect(len(policies), compare)
    except _InterruptedError as interruption:
        return interruption.result


def verdict_of(decision: SequentialDecision) -> Verdict:
    """What the comparison of the first checkpoint (a) with another one (b) says about b, whatever the errors were."""
    if decision.decision == "equivalent":
        return "kept"
    if decision.decision == "differ" and decision.e_value_with_errors >= 1 / decision.rule.alpha:
        return "lost" if decision.rate_b < decision.rate_a else "kept"
    return "undecided"


def bisection_sentence(found: Bisection, policies: Sequence[str], rule: StoppingRule) -> str:
    """State between which checkpoints success was lost."""
    tested = f"{len(found.verdicts)} of {len(policies) - 1} later checkpoints compared with {policies[0]}"
    level = f"level {rule.alpha:g} for all of them, valid at every look"
    if found.bad is None:
        place = len(policies) - 1
        shown = {
            "kept": f"{policies[place]} has lost nothing against {policies[0]}",
            "undecided": f"Undecided whether {policies[place]} has lost success against {policies[0]}",
        }[found.verdicts[place]]
        return f"{shown} ({tested}; {level}; equivalence within ± {100 * rule.margin:g} points)."
    between = f"Success was lost between {policies[found.good]} and {policies[found.bad]}"
    open_ = ", ".join(policies[place] for place in found.undecided)
    return f"{between} ({tested}; {level})" + (f"; undecided in between: {open_}." if open_ else ".")


class _InterruptedError(Exception):
    def __init__(self, result: RunResult):
        super().__init__()
        self.result = result
