"""The tables of one run or several: as an object, as text, or as files in the run folder."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from simloop.results.errors import ResultsError
from simloop.results.records.ledger import LedgerError
from simloop.results.records.records import run_folder
from simloop.results.records.runs import Runs, RunSource, load_runs
from simloop.results.statistics.robustness import without_points
from simloop.results.statistics.scores import score_tasks
from simloop.results.tables.axis_table import axis_frame, axis_grids, axis_scores
from simloop.results.tables.choice import chosen_policies, matching, printed_names, selected
from simloop.results.tables.delay_curves import delay_curves, delay_frame, delay_grids
from simloop.results.tables.grid import Grid
from simloop.results.tables.latency_table import (
    batch_grids,
    compact_latency_grids,
    latency_frame,
    latency_grids,
)
from simloop.results.tables.latex import to_latex
from simloop.results.tables.options import DEFAULT_OPTIONS, TableName, TableOptions, table_options
from simloop.results.tables.perturbation_curves import (
    perturbation_curves,
    perturbation_frame,
    perturbation_grids,
)
from simloop.results.tables.prompt_table import prompt_frame, prompt_grids, prompt_scores
from simloop.results.tables.published import (
    PUBLISHED,
    Published,
    read_published,
    reproduction_frame,
    reproduction_grid,
    reproductions,
)
from simloop.results.tables.robustness_table import robustness, robustness_frame, robustness_grids
from simloop.results.tables.success_frame import success_frame
from simloop.results.tables.success_table import success_grids
from simloop.results.tables.time_table import time_frame, time_grids
from simloop.results.tables.typesetting import to_csv, to_html, to_markdown, to_text

Format = Literal["terminal", "md", "csv", "tex", "html"]
RunsLike = str | Path | RunSource | Sequence[str | Path | RunSource] | Runs

WRITTEN: tuple[TableName, ...] = ("success", "latency")
FILES: tuple[Format, ...] = ("md", "csv", "tex")


class MixedRuns(UserWarning):
    """Runs of different policies in one table differ in software, settings or hardware; the message names the
    differences."""


@dataclass(frozen=True)
class Table:
    """A table of runs, to typeset in any format. A notebook shows it as HTML."""

    runs: Runs
    options: TableOptions
    published: tuple[Published, ...] = PUBLISHED

    @property
    def name(self) -> TableName:
        """Which table it is."""
        return self.options.only or "success"

    def grids(self, *, short: bool = False) -> list[Grid]:
        """The table before typesetting, a grid for each suite and protocol; empty if it has no content.

        Args:
          short: Latencies with a row per policy rather than per stage.
        """
        grids = self._contents.grids(short)
        if self.name != "success":
            labels = self._labels
            grids = [selected(grid, labels, self.options) for grid in grids]
        notes = (*self.runs.notes, *self.runs.own_code)
        return [replace(grid, notes=(*grid.notes, *notes)) for grid in grids]

    def to_text(self) -> str:
        """The layout for a terminal."""
        return self._typeset(to_text, short=True)

    def to_markdown(self) -> str:
        """Tables of GitHub-flavoured Markdown, their notes as lists."""
        return self._typeset(to_markdown)

    def to_html(self) -> str:
        """A `<table>` for each grid, which spreadsheets and word processors take by copying."""
        return self._typeset(to_html, "<p>", "</p>", short=True)

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        """The layout for a terminal."""
        return self.to_text()

    def to_latex(self) -> str:
        """Tables that compile in the document class of the options, with what they need in a comment."""
        grids = self.grids()
        return to_latex(grids, self.options, self.name) if grids else f"% {self._contents.if_empty}\n"

    def to_csv(self) -> str:
        """A tidy row per score or stage, with intervals; warns of what differs between the runs."""
        for note in self.runs.notes:
            warnings.warn(note, MixedRuns, stacklevel=2)
        return to_csv(self.to_frame())

    def to_frame(self) -> pd.DataFrame:
        """A tidy row per score or stage, with the chosen policies and tasks; rates are in [0, 1]."""
        frame = self._contents.frame()
        if "policy" in frame:
            frame = frame[frame["policy"].isin(list(self._labels))]
        if self.options.tasks and "task" in frame:
            tasks = matching(self.options.tasks, [name for name in frame["task"].unique() if name], "task")
            frame = frame[frame["task"].isin([*tasks, ""])]
        return frame.reset_index(drop=True)

    def text(self, format: Format) -> str:
        """The table in a format."""
        if format == "csv":
            return self.to_csv()
        made: Mapping[str, Callable[[], str]] = {
            "terminal": self.to_text,
            "md": self.to_markdown,
            "html": self.to_html,
            "tex": self.to_latex,
        }
        return made[format]()

    def _typeset(
        self, typeset: Callable[[Grid], str], before: str = "", after: str = "", *, short: bool = False
    ) -> str:
        grids = self.grids(short=short)
        return "\n".join(map(typeset, grids)) if grids else f"{before}{self._contents.if_empty}{after}\n"

    @cached_property
    def _labels(self) -> dict[str, str]:
        """Printed names of the chosen policies by label."""
        labels = [self.runs.labels[policy] for policy in chosen_policies(self.runs, self.options)]
        return printed_names(labels, self.options)

    @cached_property
    def _contents(self) -> _Contents:
        return _contents_of(self.name, self.runs, self.published, self.options)


def table(runs: RunsLike, options: TableOptions = DEFAULT_OPTIONS, **choices: Any) -> Table:
    """The table of one run or of several side by side, finished or not.

    Args:
      runs: Folders, each as `FOLDER` or `NAME=FOLDER`, or runs that were loaded.
      options: What to show and how.
      choices: Fields of `TableOptions` that replace those of `options`, such as `rows="policies"`.

    Raises:
      LedgerError: If a folder is not that of a run, its records were altered, or runs cannot be joined.
      ResultsError: If an option is unknown, or names something that the runs do not have.
    """
    loaded = runs if isinstance(runs, Runs) else load_runs(runs)
    one_of_several = {name: (choices[name],) for name in _SEVERAL if isinstance(choices.get(name), str)}
    chosen = table_options(choices | one_of_several).over(options)
    published = PUBLISHED if chosen.published is None else read_published(chosen.published)
    return Table(loaded, chosen, published)


_SEVERAL = ("policies", "tasks", "cells", "emphasis")


def render(runs: RunsLike, format: Format, options: TableOptions = DEFAULT_OPTIONS) -> str:
    """A table as text, or in a terminal the tables of success and latency unless the options name one.

    Lost queries leave out the latency table unless it is named.

    Raises:
      LedgerError, ResultsError: As `table`.
    """
    loaded = runs if isinstance(runs, Runs) else load_runs(runs)
    if options.only or format != "terminal":
        return table(loaded, options).text(format)
    texts = []
    for name in WRITTEN:
        try:
            texts.append(table(loaded, replace(options, only=name)).text(format))
        except LedgerError as error:  # Of lost queries: the success table does not need them.
            texts.append(f"No {name} table: {error}\n")
    return "\n".join(texts)


def write_tables(run: str | Path, options: TableOptions = DEFAULT_OPTIONS) -> list[Path]:
    """Write the tables `success` and `latency` as .md, .csv and .tex into the run folder; returns the files.

    Raises:
      LedgerError: If the folder is not that of a run, or its records were altered.
    """
    folder, loaded = run_folder(run), load_runs(run)
    written = []
    for name in WRITTEN:
        made = table(loaded, replace(options, only=name))
        for format in FILES:
            file = folder / f"{name}.{format}"
            try:
                text = made.text(format)
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


@dataclass(frozen=True)
class _Contents:
    """A table before policies are chosen and it has a format."""

    grids: Callable[[bool], list[Grid]]
    """Takes whether latencies are to be short."""
    frame: Callable[[], pd.DataFrame]
    """Computed on demand, since intervals take a while."""
    if_empty: str


def _contents_of(
    name: TableName, runs: Runs, published: Sequence[Published], options: TableOptions
) -> _Contents:
    match name:
        case "success":
            return _Contents(
                lambda short: success_grids(without_points(runs), options, published),
                lambda: success_frame(score_tasks(runs.episodes, runs.plans)),
                "No success rates yet: no episode has finished.",
            )
        case "latency":
            return _Contents(
                lambda short: _latency_grids(runs, short, options),
                lambda: latency_frame(runs.queries),
                "No latencies yet: no finished episode has queried a policy.",
            )
        case "time":
            tasks = [task for plan in runs.plans for task in plan.tasks]
            return _Contents(
                lambda short: time_grids(runs.episodes, runs.labels, tasks, options, runs.stopped_policies),
                lambda: time_frame(runs.episodes, runs.labels, runs.stopped_policies),
                "No times yet: no episode has been completed.",
            )
        case "published":
            found = reproductions(runs, published)
            return _Contents(
                lambda short: [reproduction_grid(found, runs.labels, options=options)] if found else [],
                lambda: reproduction_frame(found, runs.labels),
                "No published rates are known for these policies and tasks.",
            )
        case "perturbations":
            curves = perturbation_curves(runs)
            return _Contents(
                lambda short: perturbation_grids(curves, runs.labels, options),
                lambda: perturbation_frame(curves, runs.labels),
                "These runs have no perturbed episodes; simloop run --perturb plays them.",
            )
        case "delays":
            delayed = delay_curves(runs)
            return _Contents(
                lambda short: delay_grids(delayed, runs.labels, options),
                lambda: delay_frame(delayed, runs.labels),
                "These runs have no delayed answers; simloop sweep plays them.",
            )
        case "prompts":
            prompted = prompt_scores(runs)
            return _Contents(
                lambda short: prompt_grids(prompted, runs.labels, options),
                lambda: prompt_frame(prompted, runs.labels),
                "These runs have the instructions of one source; simloop run --prompt-source plays others.",
            )
        case "axes":
            changed = axis_scores(runs)
            return _Contents(
                lambda short: axis_grids(changed, runs.labels, options),
                lambda: axis_frame(changed, runs.labels),
                "These runs have no variants of tasks; simloop run libero_plus plays those of LIBERO-plus.",
            )
        case "robustness":
            designed = robustness(runs)
            return _Contents(
                lambda short: robustness_grids(designed, runs.labels, options),
                lambda: robustness_frame(designed, runs.labels),
                "These runs have no design of perturbations; simloop robustness plays one.",
            )


def _latency_grids(runs: Runs, short: bool, options: TableOptions) -> list[Grid]:
    queries, compile_s = runs.queries, runs.compile_s
    rows = compact_latency_grids if short else latency_grids
    return rows(queries, compile_s, options) + batch_grids(queries, options)
