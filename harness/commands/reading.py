"""Commands that say what the episodes of runs prove, or would prove."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional

from simloop.harness.commands.options import arg


def table(
    runs: Annotated[Positional[tuple[str, ...]], arg("RUN [RUN ...]")],
    *,
    format: Literal["terminal", "md", "csv", "tex", "html"] = "terminal",
    only: Annotated[
        Literal["success", "latency", "time", "published", "perturbations"] | None,
        arg("{success,latency,time,published,perturbations}", "success and latency; as csv success"),
    ] = None,
    published: Annotated[Path | None, arg("FILE", "what simloop knows of")] = None,
) -> int:
    """Print the tables of one run or several, also while they are still running.

    Args:
      runs: Run folders, such as runs/demo. NAME=FOLDER puts NAME: before its policies, to set runs of the
        same policies side by side.
      format: Markdown, CSV, LaTeX (booktabs) or HTML for a document, or the terminal's own layout.
      only: One table alone; time has the steps to success, published sets our rates beside published ones,
        perturbations has the success left at every strength.
      published: Published rates, as CSV with the columns policy, tasks, rate, episodes, protocol, source.
    """
    from simloop.results.tables.published import PUBLISHED, read_published
    from simloop.results.tables.run_tables import render

    known = PUBLISHED if published is None else read_published(published)
    # Tables are wider than a terminal may be; a wrapped table is not a table.
    Console().print(render(list(runs), format, only, known), highlight=False, markup=False, soft_wrap=True)
    return 0


def compare(
    policies: Annotated[Positional[tuple[str, ...]], arg("[POLICY ...]", "all of the runs")] = (),
    *,
    run: Annotated[tuple[str, ...], arg("RUN [RUN ...]")],
    margin: Annotated[float, arg("D")] = 0.02,
    alpha: Annotated[float, arg("A")] = 0.05,
    looked_at: Annotated[int | None, arg("N", "as many as the runs hold")] = None,
    by_task: bool = False,
) -> int:
    """Say in sentences which policies differ, which are equivalent, and what the episodes leave open.

    Examples:

      simloop compare pi0_libero@/a pi0_libero@/b --run runs/libero

      simloop compare before:expert after:expert --run before=runs/one after=runs/two

    Policies that met the same episodes are compared in pairs, others as strangers, which is said.

    Args:
      policies: Two or more policies, as the tables name them.
      run: Run folders; NAME=FOLDER puts NAME: before its policies.
      margin: Differences of success rates below this do not matter.
      alpha: How often, at most, any of all comparisons may find a difference that there is not.
      looked_at: Policies and checkpoints that were tried before these were chosen.
      by_task: Show every pair task by task, too.
    """
    from simloop.results.records.runs import load_runs
    from simloop.results.statistics.early_stopping import sequential_decisions
    from simloop.results.statistics.outcome_matrix import outcome_matrices
    from simloop.results.tables.decisions import decision_sentence
    from simloop.results.tables.statements import comparison, task_grid
    from simloop.results.tables.typesetting import to_text

    console, runs = Console(), load_runs(list(run))
    for answer in sequential_decisions(runs):
        if not policies or {answer.a, answer.b} <= set(policies):
            console.print(f"{decision_sentence(answer)}\n", highlight=False, markup=False)
            console.print(
                "The run stopped by its rule: quote this, for p-values and intervals below suppose a number of "
                "episodes fixed beforehand.\n",
                highlight=False,
                markup=False,
            )
    for title, sentences, grid in comparison(runs, policies, margin=margin, alpha=alpha, looked_at=looked_at):
        console.print(title, style="bold", highlight=False, markup=False)
        for sentence in sentences:
            console.print(f"\n{sentence}", highlight=False, markup=False)
        console.print(f"\n{to_text(grid)}", highlight=False, markup=False, soft_wrap=True)
    if by_task:
        for outcomes in outcome_matrices(runs.episodes, policies or runs.policies).values():
            for a, b in itertools.combinations(outcomes.policies, 2):
                text = to_text(task_grid(outcomes, a, b))
                console.print(text, highlight=False, markup=False, soft_wrap=True)
    return 0


def report(
    runs: Annotated[Positional[tuple[str, ...]], arg("RUN [RUN ...]")],
    *,
    out: Annotated[Path | None, arg("DIR", "report/ in the first run")] = None,
    margin: Annotated[float, arg("D")] = 0.02,
    alpha: Annotated[float, arg("A")] = 0.05,
    looked_at: Annotated[int | None, arg("N", "as many as the runs hold")] = None,
) -> int:
    """Write a folder with a page that opens from disk: the answer, tables, figures, every video, methods.

    Args:
      runs: Run folders; NAME=FOLDER puts NAME: before its policies.
      out: Folder of the report; an earlier report in it is replaced.
      margin: Differences of success rates below this do not matter.
      alpha: How often, at most, any of all comparisons may find a difference that there is not.
      looked_at: Policies and checkpoints that were tried before these were chosen.
    """
    from simloop.results.records.runs import RunSource
    from simloop.results.report.html_report import write_report

    folder = out or RunSource.parse(runs[0]).folder / "report"
    page = write_report(list(runs), folder, margin=margin, alpha=alpha, looked_at=looked_at)
    Console().print(f"Open {page} in a browser.", highlight=False, markup=False, soft_wrap=True)
    return 0


def plan(
    *,
    difference: Annotated[float | None, arg("D", "a table of what can be found")] = None,
    episodes: Annotated[tuple[int, ...] | None, arg("N [N ...]", "10 to 2000")] = None,
    base: Annotated[float, arg("P")] = 0.9,
    tasks: Annotated[int, arg("N")] = 1,
    policies: Annotated[int, arg("N")] = 2,
    correlation: Annotated[float, arg("R")] = 0.15,
    power: Annotated[float, arg("P")] = 0.8,
    alpha: Annotated[float, arg("A")] = 0.05,
    margin: Annotated[float, arg("D")] = 0.02,
) -> int:
    """Say how many episodes a difference takes, or what so many can find, before anything is run.

    Examples:

      simloop plan --base 0.9 --difference 0.05 --tasks 10

      simloop plan --base 0.9 --episodes 500

    Args:
      difference: Difference of success rates that is to be found, such as 0.05.
      episodes: Episodes per policy, over all tasks, of which to say what they can find.
      base: Success rate of the better policy.
      tasks: Tasks among which the episodes are divided.
      policies: Policies that will be compared; all pairs share alpha.
      correlation: Of the outcomes of two policies in the same episode. 0.15 is usual between different policies;
        the same weights under another engine have more.
      power: How often a difference that is there is to be found.
      alpha: How often, at most, any comparison may find a difference that is not there.
      margin: Differences below this do not matter: policies that differ by less are equivalent.
    """
    from simloop.results.errors import ResultsError
    from simloop.results.statistics.contrasts import family_size
    from simloop.results.statistics.sample_size import Design
    from simloop.results.tables.sample_size_table import (
        EPISODES,
        detectable_grid,
        difference_grid,
        equivalence_grid,
    )
    from simloop.results.tables.typesetting import to_text

    if tasks < 1 or policies < 2 or min(episodes or (1,)) < 1 or not 0 < margin < 1:
        raise ResultsError(
            "Wanted at least 1 task, 2 policies, 1 episode and a margin in (0, 1); got "
            f"--tasks {tasks} --policies {policies} --episodes {episodes} --margin {margin}."
        )
    design = Design(base, correlation, alpha, power, family_size(policies))
    grids = []
    if difference is not None:
        grids.append(difference_grid(design, difference, tasks))
    if difference is None or episodes:
        grids.append(detectable_grid(design, episodes or EPISODES))
    grids.append(equivalence_grid(design, margin, tasks))
    for grid in grids:
        Console().print(to_text(grid), highlight=False, markup=False, soft_wrap=True)
    return 0
