"""The tutorials run as they are printed."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda file: file.stem)
def test_every_block_of_a_tutorial_runs_in_order(tutorial, tmp_path):
    blocks = BLOCK.findall(tutorial.read_text())
    assert blocks, f"{tutorial} shows no command"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    # Python blocks that follow each other share their names, as in a notebook.
    for language, group in itertools.groupby(blocks, key=lambda block: block[0]):
        text = "".join(block for _, block in group)
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euc", text]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, f"{text}\n{ended.stdout}\n{ended.stderr}"


def test_relative_links_of_the_readme_and_the_documentation_exist():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists() and not target.endswith("reference/cli.md")
    ]
    assert broken == []
