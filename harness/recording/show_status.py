"""The command `simloop status`: a run as it is told in its folder, for another terminal than its own."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from simloop.harness.recording.run_progress import duration, status_view
from simloop.harness.recording.run_status import STATUS_EVERY_S, Status, is_stale, read_status

GONE = 1
"""Exit status for a run that says it goes on and does not."""


def show(run: Path, console: Console, *, follow: bool) -> int:
    """Show a run once, or until it has ended; returns the exit status."""
    status = read_status(run)
    if follow and console.is_terminal:
        with Live(_view(status), console=console, auto_refresh=False, transient=True) as live:
            while _goes_on(status):
                time.sleep(STATUS_EVERY_S)
                status = read_status(run)
                live.update(_view(status), refresh=True)
    elif follow:
        while _goes_on(status):
            console.print(_view(status))
            time.sleep(10 * STATUS_EVERY_S)
            status = read_status(run)
    console.print(_view(status))
    return GONE if is_stale(status) else 0


def _goes_on(status: Status) -> bool:
    return status.goes_on and not is_stale(status)


def _view(status: Status) -> Group:
    state: str = status.state
    if is_stale(status):
        state += f" (nothing heard since {status.written}: killed? Give the same command again to go on)"
    where = f"{state}, {duration(status.elapsed_s)} on {status.host}, process {status.pid}"
    return Group(Text(where), status_view(status))
