"""`simloop view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say


def command(
    runs: Annotated[Positional[tuple[Path, ...]], arg("[RUN ...]", "runs")] = (Path("runs"),),
    *,
    host: Annotated[str, arg("ADDRESS")] = "127.0.0.1",
    port: Annotated[int, arg("N", "any free one")] = 0,
) -> int:
    """Serve pages of runs on this machine: outcomes, lost moments, and every episode step by step.

    Examples:

      simloop view                    all runs in runs/

      simloop view runs/demo

    The printed address contains a token, without which nothing is served. Runs in progress fill in by themselves.
    simloop report writes the same pages to disk.

    Args:
      runs: Run folders, or folders that hold run folders.
      host: Address to listen at. Others than 127.0.0.1 let other machines in.
      port: Port to listen at.
    """
    from simloop.harness.errors import SimloopError
    from simloop.harness.viewing.serve import serve
    from simloop.harness.viewing.shelf import Shelf

    if missing := [str(folder) for folder in runs if not folder.is_dir()]:
        raise SimloopError(
            f"{', '.join(missing)}: no such folder. Name run folders, or a folder that holds some."
        )
    serve(Shelf(runs), host, port, say)
    return 0
