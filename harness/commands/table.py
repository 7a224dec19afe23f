"""`simloop table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say


def command(
    runs: Annotated[Positional[tuple[str, ...]], arg("RUN [RUN ...]")],
    *,
    format: Literal["terminal", "md", "csv", "tex", "html"] = "terminal",
    only: Annotated[
        Literal["success", "latency", "time", "published", "perturbations", "delays"] | None,
        arg("{success,latency,time,published,perturbations,delays}", "success and latency; as CSV success"),
    ] = None,
    published: Annotated[Path | None, arg("FILE", "the rates that simloop knows")] = None,
) -> int:
    """Print the tables of one or several runs, finished or still running.

    Args:
      runs: Run folders, such as runs/demo. NAME=FOLDER prefixes the policies of a run with NAME:.
      format: Markdown, CSV, LaTeX (booktabs) or HTML for a document, or the layout for a terminal.
      only: One table: time has steps to success, perturbations success by strength, delays success by
        delay, published rates of others.
      published: Published rates as CSV with the columns policy, tasks, rate, episodes, protocol, source.
    """
    from simloop.results.tables.published import PUBLISHED, read_published
    from simloop.results.tables.run_tables import render

    known = PUBLISHED if published is None else read_published(published)
    say(render(list(runs), format, only, known))
    return 0
