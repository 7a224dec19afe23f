"""The tables of one run or several, as text and as files beside the records."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from simloop.results.records.records import run_folder
from simloop.results.records.runs import Runs, RunSource, load_runs
from simloop.results.statistics.outcome_matrix import outcome_matrices
from simloop.results.statistics.scores import score_tasks
from simloop.results.tables.latency_table import (
    batch_grids,
    compact_latency_grids,
    latency_frame,
    latency_grids,
)
from simloop.results.tables.perturbation_curves import (
    perturbation_curves,
    perturbation_frame,
    perturbation_grids,
)
from simloop.results.tables.published import (
    PUBLISHED,
    Published,
    reproduction_frame,
    reproduction_grid,
    reproductions,
)
from simloop.results.tables.success_table import success_frame, success_grids
from simloop.results.tables.time_table import time_frame, time_grids
from simloop.results.tables.typesetting import Grid, to_html, to_markdown, to_tex, to_text

Format = Literal["terminal", "md", "csv", "tex", "html"]
Table = Literal["success", "latency", "time", "published", "perturbations"]

WRITTEN: tuple[Table, ...] = ("success", "latency")
FILES: tuple[Format, ...] = ("md", "csv", "tex")
TYPESET: Mapping[str, Callable[[Grid], str]] = {
    "terminal": to_text,
    "md": to_markdown,
    "tex": to_tex,
    "html": to_html,
}


def render(
    runs: str | Path | RunSource | Sequence[str | Path | RunSource] | Runs,
    format: Format,
    table: Table | None = None,
    published: Sequence[Published] = PUBLISHED,
) -> str:
    """The tables of some runs, finished or not: success and latency, unless one is named.

    As `csv` there is a tidy row per score or stage, with intervals; as two tables are no CSV file,
    it is the success table unless the other is named. On the `terminal` and as
    `html` latencies are short: a row per policy rather than per stage.

    Args:
      runs: Folders, each as `FOLDER` or `NAME=FOLDER`; several become columns of one table.
      published: Rates to set beside ours in the table `published`.

    Raises:
      LedgerError: If a folder is not that of a run, its records were altered, or runs cannot be joined.
    """
    loaded = runs if isinstance(runs, Runs) else load_runs(runs)
    if format == "csv":
        return _contents(table or "success", loaded, published).text("csv")
    return "\n".join(
        _contents(name, loaded, published).text(format) for name in ([table] if table else WRITTEN)
    )


def write_tables(run: str | Path) -> list[Path]:
    """Write `success` and `latency` as .md, .csv and .tex into the folder of a run; returns the files.

    Raises:
      LedgerError: If the folder is not that of a run, or its records were altered.
    """
    folder = run_folder(run)
    loaded = load_runs(run)
    written = []
    for name in WRITTEN:
        contents = _contents(name, loaded, PUBLISHED)
        for format in FILES:
            file = folder / f"{name}.{format}"
            part = file.with_name(f".{file.name}.part")
            part.write_text(contents.text(format), encoding="utf-8")
            os.replace(part, file)
            written.append(file)
    return written


@dataclass(frozen=True)
class _Contents:
    """A table before it has a format."""

    grids: Callable[[Format], list[Grid]]
    frame: Callable[[], pd.DataFrame]
    """Made when asked for: its intervals take a while."""
    if_empty: str

    def text(self, format: Format) -> str:
        if format == "csv":
            return self.frame().to_csv(index=False, lineterminator="\n")
        grids = self.grids(format)
        if not grids:
            before, after = {"tex": ("% ", ""), "html": ("<p>", "</p>")}.get(format, ("", ""))
            return f"{before}{self.if_empty}{after}\n"
        return "\n".join(TYPESET[format](grid) for grid in grids)


def _contents(table: Table, runs: Runs, published: Sequence[Published]) -> _Contents:
    match table:
        case "success":
            return _success(runs)
        case "latency":
            return _latency(runs)
        case "time":
            return _time(runs)
        case "published":
            return _published(runs, published)
        case "perturbations":
            return _perturbations(runs)


def _success(runs: Runs) -> _Contents:
    scores = score_tasks(runs.episodes, runs.plans)
    return _Contents(
        lambda format: success_grids(
            scores, runs.plans, outcome_matrices(runs.episodes, runs.policies), runs.looked_at
        ),
        lambda: success_frame(scores),
        "No success rates yet: no episode has finished.",
    )


def _latency(runs: Runs) -> _Contents:
    def grids(format: Format) -> list[Grid]:
        if format == "terminal":
            return compact_latency_grids(runs.queries, runs.compile_s)
        if format == "html":
            return compact_latency_grids(runs.queries, runs.compile_s) + batch_grids(runs.queries)
        return latency_grids(runs.queries, runs.compile_s) + batch_grids(runs.queries)

    return _Contents(
        grids,
        lambda: latency_frame(runs.queries),
        "No latencies yet: no finished episode has asked a policy.",
    )


def _time(runs: Runs) -> _Contents:
    return _Contents(
        lambda format: time_grids(
            runs.episodes, runs.labels, [task for plan in runs.plans for task in plan.tasks]
        ),
        lambda: time_frame(runs.episodes, runs.labels),
        "No times yet: no episode has been completed.",
    )


def _published(runs: Runs, published: Sequence[Published]) -> _Contents:
    found = reproductions(runs, published)
    return _Contents(
        lambda format: [reproduction_grid(found, runs.labels)] if found else [],
        lambda: reproduction_frame(found, runs.labels),
        "No rates are known to be published for these policies and tasks.",
    )


def _perturbations(runs: Runs) -> _Contents:
    found = perturbation_curves(runs)
    return _Contents(
        lambda format: perturbation_grids(found, runs.labels),
        lambda: perturbation_frame(found, runs.labels),
        "Nothing was disturbed in these runs: simloop run --perturb does it.",
    )
