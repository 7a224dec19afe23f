"""Tests that run LaTeX, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

needs_latex = pytest.mark.skipif(
    not all(map(shutil.which, ("pdflatex", "pdffonts"))),
    reason="no pdflatex or pdffonts; install texlive-latex-extra, texlive-science, texlive-publishers, "
    "texlive-fonts-recommended, cm-super and poppler-utils",
)


def assert_fonts_are_embedded(pdf: Path) -> None:
    """Check that a PDF can be printed on a machine without its fonts."""
    listed = subprocess.run(
        ["pdffonts", str(pdf)], capture_output=True, text=True, check=True
    ).stdout.splitlines()[2:]
    assert listed
    for line in listed:
        assert line.split()[-5] == "yes", line
