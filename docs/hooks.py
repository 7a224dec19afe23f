"""Generate the reference of the command line from `--help` while the documentation is built."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGE = "reference/cli.md"
SIMLOOP = Path(sys.executable).parent / "simloop"
WIDTH = 100  # Columns of the help text.


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated page to the pages that are built."""
    files.append(File.generated(config, PAGE, content=command_line_reference()))
    return files


def command_line_reference() -> str:
    """A section with the help text of every command, as Markdown."""
    overview = _help()
    commands = re.findall(r"^│\s+• (\w+)", overview, flags=re.MULTILINE)
    sections = ["# Command line", f"```text\n{overview}\n```"]
    for command in commands:
        sections.append(f"## simloop {command}\n\n```text\n{_help(command)}\n```")
    return "\n\n".join(sections) + "\n"


def _help(*command: str) -> str:
    shown = subprocess.run(
        [SIMLOOP, *command, "--help"],
        env={**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.rstrip()
