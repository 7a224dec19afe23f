"""The tables of a run, as text and as files beside its records."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from results.latency_table import latency_frame, latency_grids
from results.records import CONFIG, PROVENANCE, load, load_json, load_queries, run_folder
from results.scores import planned, score_tasks
from results.success_table import success_frame, success_grids
from results.typesetting import Grid, to_markdown, to_tex, to_text

Format = Literal["terminal", "md", "csv", "tex"]
Table = Literal["success", "latency"]

FILES: tuple[Format, ...] = ("md", "csv", "tex")
TYPESET: Mapping[str, Callable[[Grid], str]] = {"terminal": to_text, "md": to_markdown, "tex": to_tex}


def render(run: str | Path, format: Format, table: Table | None = None) -> str:
    """The tables of a run, finished or not: both, unless one is named.

    As `csv` there is a tidy row per score or stage, with intervals; as two tables are no CSV file,
    it is the success table unless the other is named.

    Raises:
      LedgerError: If the folder is not that of a run, or its records were altered.
    """
    if format == "csv":
        return _READ[table or "success"](run).text("csv")
    return "\n".join(_READ[name](run).text(format) for name in ([table] if table else _READ))


def write_tables(run: str | Path) -> list[Path]:
    """Write `success` and `latency` as .md, .csv and .tex into the folder of a run; returns the files.

    Raises:
      LedgerError: If the folder is not that of a run, or its records were altered.
    """
    folder = run_folder(run)
    written = []
    for name, read in _READ.items():
        contents = read(run)
        for format in FILES:
            file = folder / f"{name}.{format}"
            part = file.with_name(f".{file.name}.part")
            part.write_text(contents.text(format), encoding="utf-8")
            os.replace(part, file)
            written.append(file)
    return written


@dataclass(frozen=True)
class _Contents:
    """A table of one run before it has a format."""

    grids: list[Grid]
    frame: Callable[[], pd.DataFrame]
    """Made when asked for: its intervals take a while."""
    if_empty: str

    def text(self, format: Format) -> str:
        if format == "csv":
            return self.frame().to_csv(index=False, lineterminator="\n")
        if not self.grids:
            return f"{'% ' if format == 'tex' else ''}{self.if_empty}\n"
        return "\n".join(TYPESET[format](grid) for grid in self.grids)


def _success(run: str | Path) -> _Contents:
    plan = planned(load_json(run, CONFIG))
    scores = score_tasks(load(run), plan)
    return _Contents(
        success_grids(scores, plan),
        lambda: success_frame(scores),
        "No success rates yet: no episode has finished.",
    )


def _latency(run: str | Path) -> _Contents:
    queries = load_queries(run)
    grids = latency_grids(queries, load_json(run, PROVENANCE).get("compile_s", {}))
    return _Contents(
        grids, lambda: latency_frame(queries), "No latencies yet: no finished episode has asked a policy."
    )


_READ: Mapping[Table, Callable[[str | Path], _Contents]] = {"success": _success, "latency": _latency}
