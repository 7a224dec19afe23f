"""`simloop report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say
from simloop.results.tables.options import DEFAULT_OPTIONS, DocumentName, TableOptions, read_table_options


def command(
    runs: Annotated[Positional[tuple[str, ...]], arg("RUN [RUN ...]")],
    *,
    out: Annotated[Path | None, arg("DIR", "report/ in the first run")] = None,
    paper: Annotated[Path | None, arg("DIR", "")] = None,
    document: Annotated[DocumentName | None, arg("{article,ieeetran,corl,neurips,iclr}", "article")] = None,
    experiment: Annotated[Path | None, arg("FILE.toml", "")] = None,
    margin: Annotated[float, arg("D")] = 0.02,
    alpha: Annotated[float, arg("A")] = 0.05,
    looked_at: Annotated[int | None, arg("N", "the number of policies in the runs")] = None,
    draw_images: bool = False,
) -> int:
    """Write the pages of simloop view to a folder, from which they open: outcomes, episodes, tables, figures, methods.

    Args:
      runs: Run folders; NAME=FOLDER prefixes the policies with NAME:.
      out: Folder of the report; an earlier report in it is replaced.
      paper: Write a folder for a paper instead: tables and figures for its class, methods, references, numbers as
        macros, and MANIFEST.json with the hashes of the runs behind each number.
      document: Document class of the paper.
      experiment: Experiment file with a [table] of options for the tables and numbers of the paper.
      margin: Differences of success rates below this do not matter.
      alpha: Probability, at most, that any of the comparisons reports a difference that does not exist.
      looked_at: Number of policies and checkpoints that were tried before these were chosen.
      draw_images: Draw the images of policies again where step records do not store them: seconds per episode.
    """
    from simloop.harness.viewing.images import recorded_images
    from simloop.results.records.runs import RunSource
    from simloop.results.report.html_report import write_report
    from simloop.results.report.paper import write_paper

    if paper is not None:
        given = DEFAULT_OPTIONS if experiment is None else read_table_options(experiment)
        write_paper(list(runs), paper, TableOptions(document=document, looked_at=looked_at).over(given))
        say(
            f"{paper} holds tables, figures, numbers.tex, methods.tex and references.bib; example.tex shows them."
        )
        return 0
    folder = out or RunSource.parse(runs[0]).folder / "report"
    page = write_report(
        list(runs),
        folder,
        margin=margin,
        alpha=alpha,
        looked_at=looked_at,
        read_images=recorded_images,
        draw_images=draw_images,
    )
    say(f"Open {page} in a browser.")
    return 0
