"""`simloop compare`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from tyro.conf import Positional

from simloop.harness.commands.options import arg, say
from simloop.terminal import Terminal

if TYPE_CHECKING:
    from simloop.results.records.runs import Runs

WORSE = 3
"""Exit status if `--fail-if-worse` found a policy to be worse."""


def command(
    policies: Annotated[Positional[tuple[str, ...]], arg("[POLICY ...]", "all policies of the runs")] = (),
    *,
    run: Annotated[tuple[str, ...], arg("RUN [RUN ...]")],
    margin: Annotated[float, arg("D")] = 0.02,
    alpha: Annotated[float, arg("A")] = 0.05,
    looked_at: Annotated[int | None, arg("N", "the number of policies in the runs")] = None,
    by_task: bool = False,
    fail_if_worse: Annotated[float | None, arg("D", "")] = None,
) -> int:
    """State which policies differ, which are equivalent, and which comparisons are inconclusive.

    Examples:

      simloop compare pi0_libero@/a pi0_libero@/b --run runs/libero

      simloop compare before:expert after:expert --run before=runs/one after=runs/two

      simloop compare before:mine after:mine --run before=runs/main after=runs/change --fail-if-worse 0.05

    Policies that played the same episodes are compared in pairs, others as independent samples; the output says which.

    Args:
      policies: Two or more policies, named as in the tables.
      run: Run folders; NAME=FOLDER prefixes the policies with NAME:.
      margin: Differences of success rates below this do not matter.
      alpha: Probability, at most, that any of the statements reports a difference that does not exist, over all suites
        and protocols; likewise for equivalence; and separately for differences in the tables by task.
      looked_at: Number of policies and checkpoints that were tried before these were chosen.
      by_task: Also print each pair task by task.
      fail_if_worse: For CI: exit with status 3 if the last of the policies succeeds less often than any other by more
        than D, which its interval must show. An inconclusive comparison does not fail; the sentence says so.
    """
    from simloop.results.records.runs import load_runs
    from simloop.results.statistics.early_stopping import sequential_decisions
    from simloop.results.tables.decisions import decision_sentence
    from simloop.results.tables.statements import comparable, comparison, task_grids
    from simloop.results.tables.typesetting import to_text

    console, runs = Terminal(), load_runs(list(run))
    for decision in sequential_decisions(runs):
        if not policies or {decision.a, decision.b} <= set(policies):
            say(f"{decision_sentence(decision)}\n", console)
    for title, sentences, grid in comparison(runs, policies, margin=margin, alpha=alpha, looked_at=looked_at):
        console.print(title, style="bold", highlight=False, markup=False)
        for sentence in sentences:
            console.print(f"\n{sentence}", highlight=False, markup=False)
        say(f"\n{to_text(grid)}", console)
    if by_task:
        together = comparable(runs, policies, margin=margin, alpha=alpha, looked_at=looked_at)
        for by_tasks in task_grids(together, runs.labels, alpha=alpha):
            say(to_text(by_tasks), console)
    if fail_if_worse is None:
        return 0
    return check_regressions(runs, policies, margin=fail_if_worse, alpha=alpha, console=console)


def check_regressions(
    runs: Runs, policies: Sequence[str], *, margin: float, alpha: float, console: Console
) -> int:
    """State whether the last policy is worse than any other by more than the margin; returns the exit status.

    Raises:
      ResultsError: If the margin is not in [0, 1), or the last policy shares no episodes with any other.
    """
    from simloop.results.errors import ResultsError
    from simloop.results.statistics.regressions import regressions
    from simloop.results.tables.decisions import regression_sentence
    from simloop.results.tables.statements import comparable

    *_, last = policies or runs.policies
    if not 0 <= margin < 1:
        raise ResultsError(f"--fail-if-worse takes a loss of success rate in [0, 1); got {margin:g}.")
    found = regressions(comparable(runs, policies, alpha=alpha), last, margin=margin, alpha=alpha)
    if not found:
        raise ResultsError(f"{last} shares no completed episodes with any other policy of these runs.")
    for one in found:
        say(regression_sentence(one), console)
    return WORSE if any(one.verdict == "worse" for one in found) else 0
