"""`simloop inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg
from simloop.terminal import Terminal


def command(
    checkpoint: Annotated[Positional[Path], arg("CHECKPOINT")],
    *,
    preset: Annotated[str, arg("PRESET", "the first that fits")] = "",
) -> int:
    """Show what a checkpoint folder contains, which preset fits, and what the preset takes over from it.

    Reads names, shapes, statistics and options, but no weights. The exit status is 1 if no preset fits.

    Example:

      simloop inspect /data/pi05_libero

    Args:
      checkpoint: Folder of openpi, LeRobot or simloop.
      preset: Preset to compare the folder with.
    """
    from simloop.harness import inspection

    return inspection.show(checkpoint, preset, Terminal())
