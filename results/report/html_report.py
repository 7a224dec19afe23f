"""HTML report of one or several runs: a folder with pages, tables, figures and videos that opens from disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from simloop.results.errors import ResultsError
from simloop.results.records.runs import RunSource, load_runs
from simloop.results.report.site import PAGE, ReadImages, Site
from simloop.results.statistics.contrasts import MARGIN

MARK = ".simloop-report"  # Marks a folder as a report, which a newer one may replace.


def write_report(
    runs: Sequence[str | Path | RunSource],
    out: Path,
    *,
    margin: float = MARGIN,
    alpha: float = 0.05,
    looked_at: int | None = None,
    read_images: ReadImages | None = None,
    draw_images: bool = False,
) -> Path:
    """Write the report of runs into a folder; returns the path of its page.

    The same runs give the same bytes, and the pages load nothing from the network.

    Args:
      runs: Folders, each as `FOLDER` or `NAME=FOLDER`.
      out: Folder to create, or an earlier report to replace.
      margin: Differences of success rates below it are irrelevant.
      alpha: Family-wise significance level.
      looked_at: Number of policies and checkpoints that were evaluated, if more than the runs hold.
      read_images: Reader of recorded images, which the pages of episodes then show.
      draw_images: Also show images that the step records do not store: seconds per episode.

    Raises:
      ResultsError: If `out` holds files other than an earlier report or cannot be written, or no episode has finished.
        An earlier report is unchanged then.
      LedgerError: If a folder is not that of a run, its records were altered, or runs cannot be joined.
    """
    loaded = load_runs(list(runs))
    if loaded.episodes.empty:
        raise ResultsError("No episode of these runs has finished, so there is nothing to report yet.")
    site = Site(loaded, read_images, draw_images=draw_images, margin=margin, alpha=alpha, looked_at=looked_at)
    with _replacing(out) as folder:
        (folder / MARK).touch()
        for path in site.paths():
            _write(folder / path, site.content(path))
    return out / PAGE


def _write(file: Path, content: bytes | Path | None) -> None:
    if content is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, file)
    else:
        file.write_bytes(content)


@contextlib.contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of `out`, an earlier report, once all its files are written.

    Raises:
      ResultsError: If `out` is something else, or a file cannot be written; `out` is unchanged then.
    """
    if out.is_symlink():
        raise ResultsError(f"{out} is a symbolic link. Name the folder that it points to with --out.")
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise ResultsError(f"{out} holds files other than a report. Choose another folder with --out.")
    out = out.absolute()
    new, old = (out.with_name(f".{out.name}-{os.getpid()}-{age}") for age in ("new", "old"))
    try:
        new.mkdir(parents=True)
        yield new
        if out.exists():
            out.rename(old)
        new.rename(out)
    except OSError as error:
        raise ResultsError(f"The report cannot be written, and {out} is unchanged: {error}.") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
