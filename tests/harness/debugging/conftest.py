import shutil
from pathlib import Path

import pytest

from tests.helpers.recorded_run import record_run


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    """A run with one episode of `random`, recorded step by step."""
    run = tmp_path_factory.mktemp("runs") / "run"
    record_run(run)
    return run


@pytest.fixture
def run(recorded: Path, tmp_path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(recorded, tmp_path / "run")
