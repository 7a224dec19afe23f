"""The folder where downloaded files and compiled programs are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def simloop_home() -> Path:
    """The folder named by the environment variable SIMLOOP_HOME, else `~/.cache/simloop`."""
    named = os.environ.get("SIMLOOP_HOME")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "simloop"
