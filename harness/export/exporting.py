"""Export episodes of a run in one of several formats."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from simloop.envs.interface import install_command
from simloop.harness.errors import SimloopError
from simloop.harness.export.exported_episode import exported_episodes
from simloop.results.records.paths import file_name

Format = Literal["rerun", "lerobot", "mcap", "parquet"]
EXTRAS: dict[str, tuple[str, ...]] = {
    "rerun": ("rerun",),
    "mcap": ("mcap", "mcap_protobuf", "foxglove_schemas_protobuf"),
}
"""Modules that a format needs, which the extra of its name installs."""
ENDINGS = {"rerun": "rrd", "mcap": "mcap"}
"""Ending of the file of an episode, for formats with a file for each."""


class ExportError(SimloopError):
    """An export that this machine cannot write, or whose folder is taken."""


def require_modules(format: str) -> None:
    """Raise `ExportError` unless the packages of a format are installed."""
    for module in EXTRAS.get(format, ()):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ExportError(
                f"The format {format} needs the package of {module}, which is not installed ({error}). Install it "
                f"with: {install_command(format)}"
            ) from error


def export(
    run: Path, to: Format, episodes: tuple[str, ...], out: Path, cameras: tuple[str, ...] = ()
) -> Iterator[Path]:
    """Write episodes of a run; yields each file or folder as it is complete.

    Args:
      episodes: `POLICY/TASK/NUMBER` each; empty for all finished ones.
      out: Folder, which must not exist.
      cameras: As `ExportedEpisode`.

    Raises:
      ExportError: If the folder exists, or the packages of the format are missing.
      EpisodeError, StepRecordsError, StateError: If an episode has no step records, or cannot be played again.
    """
    require_modules(to)
    if out.exists():
        raise ExportError(f"{out} exists already. Remove it, or choose another folder with --out.")
    found = exported_episodes(run, episodes, cameras)
    if to == "lerobot":
        from simloop.harness.export.lerobot_dataset import write_lerobot

        yield from write_lerobot(found, out)
        return
    first = next(found)  # What is wrong with it is said before a folder is made.
    out.mkdir(parents=True)
    every = itertools.chain([first], found)
    if to == "parquet":
        from simloop.harness.export.tables import write_tables

        yield from write_tables(every, out)
        return
    if to == "rerun":
        from simloop.harness.export.rerun_file import write_rerun as write
    else:
        from simloop.harness.export.mcap_file import write_mcap as write
    for episode in every:
        path = out / f"{file_name(episode.name.replace('/', '-'))}.{ENDINGS[to]}"
        write(episode, path)
        yield path
