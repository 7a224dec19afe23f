"""Display of a run from another terminal, read from its folder (`simloop status`)."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from simloop.harness.recording.run_progress import duration, status_view
from simloop.harness.recording.run_status import STATUS_EVERY_S, Status, is_stale, read_status
from simloop.untrusted import printable

STALE = 1
"""Exit status for a run that should be in progress and reports nothing any more."""
MIN_WIDTH = 200
"""Columns of an output that is not a terminal, whose width is unknown."""


def show(run: Path, console: Console, *, follow: bool) -> int:
    """Show the progress of a run once, or until it has ended; returns the exit status."""
    if not console.is_terminal:
        console.width = max(console.width, MIN_WIDTH)
    status = read_status(run)
    if follow and console.is_terminal:
        with Live(_view(status), console=console, auto_refresh=False, transient=True) as live:
            while _in_progress(status):
                time.sleep(STATUS_EVERY_S)
                status = read_status(run)
                live.update(_view(status), refresh=True)
    elif follow:
        while _in_progress(status):
            console.print(_view(status))
            time.sleep(10 * STATUS_EVERY_S)
            status = read_status(run)
    console.print(_view(status))
    return STALE if is_stale(status) else 0


def _in_progress(status: Status) -> bool:
    return status.in_progress and not is_stale(status)


def _view(status: Status) -> Group:
    state: str = status.state
    if is_stale(status):
        state += f" (no report since {status.written}; if it was killed, the same command resumes it)"
    where = f"{state}, {duration(status.elapsed_s)} on {status.host}, process {status.pid}"
    return Group(Text(printable(where)), status_view(status))
