"""The tables of one run or several, as text or as files in the run folder."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from simloop.results.errors import ResultsError
from simloop.results.records.ledger import LedgerError
from simloop.results.records.records import run_folder
from simloop.results.records.runs import Runs, RunSource, load_runs
from simloop.results.statistics.early_stopping import matrices, sequential_decisions
from simloop.results.statistics.scores import score_tasks
from simloop.results.tables.delay_curves import delay_curves, delay_frame, delay_grids
from simloop.results.tables.grid import DEFAULT_STYLE, Grid, TableStyle
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
from simloop.results.tables.typesetting import to_csv, to_html, to_markdown, to_tex, to_text

Format = Literal["terminal", "md", "csv", "tex", "html"]
Table = Literal["success", "latency", "time", "published", "perturbations", "delays"]

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
    style: TableStyle = DEFAULT_STYLE,
) -> str:
    """Render tables of runs, finished or not: success and latency, unless one is named.

    What differs between the runs of different policies is a note below every table, and a warning with `csv`.

    `csv` has a tidy row per score or stage with intervals; since two tables are no CSV file, it is the success
    table by default. Lost queries leave out the latency table unless it is named. `terminal` and `html` have the
    short form of the latency table: a row per policy rather than per stage.

    Args:
      runs: Folders, each as `FOLDER` or `NAME=FOLDER`; several become columns of one table.
      published: Rates to compare with in the table `published`.
      style: Which parts of a measured value to show; has no effect on `csv`.

    Raises:
      LedgerError: If a folder is not that of a run, its records were altered, or runs cannot be joined.
      ResultsError: If the style selects columns and a table has none of them.
    """
    loaded = runs if isinstance(runs, Runs) else load_runs(runs)
    if format == "csv":
        for note in loaded.notes:
            warnings.warn(note, MixedRuns, stacklevel=2)
        return _contents(table or "success", loaded, published, style).text("csv")
    if table:
        return _contents(table, loaded, published, style).text(format)
    texts = []
    for name in WRITTEN:
        try:
            texts.append(_contents(name, loaded, published, style).text(format))
        except LedgerError as error:  # Of lost queries: the success table does not need them.
            texts.append(f"No {name} table: {error}\n")
    return "\n".join(texts)


def table_grids(runs: Runs, table: Table) -> list[Grid]:
    """A table as a page shows it, before typesetting; empty if it has no content."""
    return _contents(table, runs, PUBLISHED, DEFAULT_STYLE).grids("html")


def write_tables(run: str | Path, style: TableStyle = DEFAULT_STYLE) -> list[Path]:
    """Write the tables `success` and `latency` as .md, .csv and .tex into the run folder; returns the files.

    Raises:
      LedgerError: If the folder is not that of a run, or its records were altered.
    """
    folder, loaded = run_folder(run), load_runs(run)
    written = []
    for name in WRITTEN:
        contents = _contents(name, loaded, PUBLISHED, style)
        for format in FILES:
            file = folder / f"{name}.{format}"
            try:
                text = contents.text(format)
            except LedgerError:  # Of lost queries, which the run folder reported when it was opened.
                file.unlink(missing_ok=True)
                continue
            _replace(file, text)
            written.append(file)
    return written


def _replace(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise ResultsError(
            f"{file} cannot be written: {error.strerror or error}. Make room and repeat."
        ) from None


class MixedRuns(UserWarning):
    """Runs of different policies in one table differ in software, settings or hardware; the message names the
    differences."""


@dataclass(frozen=True)
class _Contents:
    """A table before it has a format."""

    grids: Callable[[Format], list[Grid]]
    frame: Callable[[], pd.DataFrame]
    """Computed on demand, since intervals take a while."""
    if_empty: str
    notes: tuple[str, ...] = ()
    """Added to every grid."""

    def text(self, format: Format) -> str:
        if format == "csv":
            return to_csv(self.frame())
        grids = self.grids(format)
        if not grids:
            before, after = {"tex": ("% ", ""), "html": ("<p>", "</p>")}.get(format, ("", ""))
            return f"{before}{self.if_empty}{after}\n"
        noted = [replace(grid, notes=(*grid.notes, *self.notes)) for grid in grids]
        return "\n".join(TYPESET[format](grid) for grid in noted)


def _contents(table: Table, runs: Runs, published: Sequence[Published], style: TableStyle) -> _Contents:
    return replace(_contents_of(table, runs, published, style), notes=(*runs.notes, *runs.own_code))


def _contents_of(table: Table, runs: Runs, published: Sequence[Published], style: TableStyle) -> _Contents:
    match table:
        case "success":
            scores = score_tasks(runs.episodes, runs.plans)
            return _Contents(
                lambda format: success_grids(
                    scores,
                    runs.plans,
                    matrices(runs),
                    sequential_decisions(runs),
                    style,
                ),
                lambda: success_frame(scores),
                "No success rates yet: no episode has finished.",
            )
        case "latency":
            return _Contents(
                lambda format: _latency_grids(runs, format, style),
                lambda: latency_frame(runs.queries),
                "No latencies yet: no finished episode has queried a policy.",
            )
        case "time":
            tasks = [task for plan in runs.plans for task in plan.tasks]
            return _Contents(
                lambda format: time_grids(runs.episodes, runs.labels, tasks, style, runs.stopped_policies),
                lambda: time_frame(runs.episodes, runs.labels, runs.stopped_policies),
                "No times yet: no episode has been completed.",
            )
        case "published":
            found = reproductions(runs, published)
            return _Contents(
                lambda format: [reproduction_grid(found, runs.labels, style=style)] if found else [],
                lambda: reproduction_frame(found, runs.labels),
                "No published rates are known for these policies and tasks.",
            )
        case "perturbations":
            curves = perturbation_curves(runs)
            return _Contents(
                lambda format: perturbation_grids(curves, runs.labels, style),
                lambda: perturbation_frame(curves, runs.labels),
                "These runs have no perturbed episodes; simloop run --perturb plays them.",
            )
        case "delays":
            delayed = delay_curves(runs)
            return _Contents(
                lambda format: delay_grids(delayed, runs.labels, style),
                lambda: delay_frame(delayed, runs.labels),
                "These runs have no delayed answers; simloop sweep plays them.",
            )


def _latency_grids(runs: Runs, format: Format, style: TableStyle) -> list[Grid]:
    queries, compile_s = runs.queries, runs.compile_s
    if format == "terminal":
        return compact_latency_grids(queries, compile_s, style)
    grids = (compact_latency_grids if format == "html" else latency_grids)(queries, compile_s, style)
    return grids + batch_grids(queries, style)
