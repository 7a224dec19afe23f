"""Assets of served suites that are published apart from their packages."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

FIND = "import importlib.util as u, sys; print(u.find_spec(sys.argv[1]).submodule_search_locations[0])"


class Assets(NamedTuple):
    """A folder that has to exist, and where its content comes from."""

    folder: Path
    content: str
    size: str
    source: str
    command: str
    """Shell command that downloads them, without the interpreter."""


def missing(needed: Sequence[Assets], suite: str, interpreter: str) -> str:
    """Name the assets that are missing with size, place and source; empty if all are there."""
    absent = [each for each in needed if not each.folder.is_dir()]
    commands = dict.fromkeys(each.command for each in absent)
    listed = "; ".join(f"{each.content} ({each.size}) from {each.source} in {each.folder}" for each in absent)
    return (
        f"Suite {suite!r} needs assets that its packages do not contain: {listed}. Download them with: "
        + " && ".join(f"{interpreter} {command}" for command in commands)
        if absent
        else ""
    )


@functools.cache
def package_folder(interpreter: str, package: str) -> Path:
    """Folder of a package of an interpreter, found without importing it; a relative path if there is none."""
    done = subprocess.run([interpreter, "-I", "-c", FIND, package], capture_output=True, text=True)
    return Path(done.stdout.strip() or package)
