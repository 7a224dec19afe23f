"""Interpreters in which other programs are installed, named by environment variables."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., None]
INSTALL = (
    "python3.12 -m venv DIR && DIR/bin/pip install 'lerobot[dataset,pi]==0.6.1' peft==0.21.2 numpydantic==2.0.0, "
    "and set SIMLOOP_LEROBOT_PYTHON=DIR/bin/python"
)


@pytest.fixture
def lerobot(tmp_path) -> Run:
    """Runs a program under an interpreter with LeRobot and PEFT; arguments are `sys.argv[1:]`."""
    python = os.environ.get("SIMLOOP_LEROBOT_PYTHON")
    if python is None:
        pytest.skip(f"To compare with LeRobot: {INSTALL}.")
    # No name is looked up on a hub.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "PYTHONPATH": ""}

    def run(program: str, *arguments: object, pythonpath: str = "") -> None:
        done = subprocess.run(
            [python, "-c", program, *map(str, arguments)],
            env=environment | {"PYTHONPATH": pythonpath},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]

    return run


@pytest.fixture
def openpi() -> Path:
    """The folder `src` of a checkout of openpi."""
    folder = os.environ.get("SIMLOOP_OPENPI")
    if folder is None:
        pytest.skip("To compare with openpi, clone it and set SIMLOOP_OPENPI to its folder src.")
    return Path(folder)
