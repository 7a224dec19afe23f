"""`simloop status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg
from simloop.terminal import Terminal


def command(run: Annotated[Positional[Path], arg("RUN")], *, follow: bool = False) -> int:
    """Show the progress of a run from any terminal: success so far, episodes per hour, time left, utilisation.

    The same numbers are in RUN/status.json, and once per minute in RUN/figures.jsonl.

    Args:
      run: A run folder, such as runs/demo, during the run or after it.
      follow: Keep showing until the run has ended or Ctrl-C is pressed.
    """
    from simloop.harness.recording.show_status import show

    return show(run, Terminal(), follow=follow)
