import shutil
from pathlib import Path

import pytest


@pytest.fixture
def run(recorded: Path, tmp_path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(recorded, tmp_path / "run")
