"""Cache folder for downloads, compiled programs and compiled models."""

from __future__ import annotations

import os
from pathlib import Path


def simloop_home() -> Path:
    """The folder in the environment variable SIMLOOP_HOME, else `~/.cache/simloop`."""
    folder = os.environ.get("SIMLOOP_HOME")
    return Path(folder).expanduser() if folder else Path.home() / ".cache" / "simloop"
