"""A progress bar for loading in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from simloop.policies.checkpoints.streaming import LoadProgress


@contextmanager
def progress_bar(title: str, console: Console | None = None) -> Iterator[Callable[[LoadProgress], None]]:
    """Show a bar while the block runs; yields the callback for `Checkpoint.load`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(title, total=None)

        def show(progress: LoadProgress) -> None:
            bar.update(task, completed=progress.bytes_done, total=progress.bytes_total)

        yield show
