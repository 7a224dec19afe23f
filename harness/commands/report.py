"""`simloop report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say


def command(
    runs: Annotated[Positional[tuple[str, ...]], arg("RUN [RUN ...]")],
    *,
    out: Annotated[Path | None, arg("DIR", "report/ in the first run")] = None,
    margin: Annotated[float, arg("D")] = 0.02,
    alpha: Annotated[float, arg("A")] = 0.05,
    looked_at: Annotated[int | None, arg("N", "the number of policies in the runs")] = None,
    draw_images: bool = False,
) -> int:
    """Write the pages of simloop view to a folder, from which they open: outcomes, episodes, tables, figures, methods.

    Args:
      runs: Run folders; NAME=FOLDER prefixes the policies with NAME:.
      out: Folder of the report; an earlier report in it is replaced.
      margin: Differences of success rates below this do not matter.
      alpha: Probability, at most, that any of the comparisons reports a difference that does not exist.
      looked_at: Number of policies and checkpoints that were tried before these were chosen.
      draw_images: Draw the images of policies again where step records do not store them: seconds per episode.
    """
    from simloop.harness.viewing.images import recorded_images
    from simloop.results.records.runs import RunSource
    from simloop.results.report.html_report import write_report

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
