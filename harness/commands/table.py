"""`simloop table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from simloop.harness.commands.options import FLAT, arg, say
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions


def command(
    runs: Annotated[Positional[tuple[str, ...]], arg("RUN [RUN ...]")],
    *,
    format: Literal["terminal", "md", "csv", "tex", "html"] = "terminal",
    preview: Annotated[Path | None, arg("FILE.pdf", "")] = None,
    experiment: Annotated[Path | None, arg("FILE.toml", "")] = None,
    options: Annotated[TableOptions, FLAT] = DEFAULT_OPTIONS,
) -> int:
    """Print a table of one or several runs, finished or still running.

    Examples:

      simloop table runs/demo --rows policies --cells rate half-width --order rate

      simloop table before=runs/a after=runs/b --format tex --document neurips > success.tex

    Args:
      runs: Run folders, such as runs/demo. NAME=FOLDER prefixes the policies of a run with NAME:.
      format: Markdown, CSV, LaTeX (booktabs) or HTML for a document, or the layout for a terminal.
      preview: Write the table as it looks in a paper, with pdflatex.
      experiment: Experiment file with a [table] of options, which those given here replace.
    """
    from simloop.results.tables.options import read_table_options
    from simloop.results.tables.preview import write_preview
    from simloop.results.tables.run_tables import render, table

    chosen = options if experiment is None else options.over(read_table_options(experiment))
    if preview is None:
        say(render(list(runs), format, chosen))
        return 0
    pages = write_preview(table(list(runs), chosen), preview)
    say(f"{preview} shows the table on {pages} page{'' if pages == 1 else 's'}.")
    return 0
