"""Progress bars in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from simloop.terminal import Terminal


class Update(Protocol):
    """Set the amount done; total and text stay as they are if None."""

    def __call__(self, done: int, total: int | None = None, text: str | None = None) -> None: ...


@contextmanager
def progress_bar(
    title: str,
    total: int | None = None,
    *,
    unit: Literal["items", "bytes"] = "items",
    console: Console | None = None,
) -> Iterator[Update]:
    """Show a bar while the block runs, unless output goes to a file; yields its `Update`."""
    console = console or Terminal(stderr=True)
    counts = (
        (DownloadColumn(binary_units=True), TransferSpeedColumn())
        if unit == "bytes"
        else (MofNCompleteColumn(),)
    )
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *counts)
    with Progress(
        *columns,
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(title, total=total, text="")

        def update(done: int, total: int | None = None, text: str | None = None) -> None:
            fields: dict[str, Any] = {} if text is None else {"text": text}
            progress.update(task, completed=done, total=total, **fields)

        yield update
