"""Typeset a table as a PDF, as it looks in a paper."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from simloop.results.errors import ResultsError
from simloop.results.tables.document_class import DOCUMENT_CLASSES, DocumentClass
from simloop.results.tables.latex import PACKAGES
from simloop.results.tables.run_tables import Table

TIMEOUT_S = 120


def write_preview(table: Table, file: Path) -> int:
    """Write a table as PDF, in the document class of its options; returns the number of pages.

    Raises:
      ResultsError: If there is no pdflatex, it does not accept the table, or the file cannot be written.
    """
    source = latex_document(DOCUMENT_CLASSES[table.options.document or "article"], table.to_latex())
    with tempfile.TemporaryDirectory() as folder:
        pdf, log = compile_latex(source, Path(folder))
        try:
            shutil.copyfile(pdf, file)
        except OSError as error:
            raise ResultsError(f"{file} cannot be written: {error.strerror or error}.") from error
    pages = re.search(r"\((\d+) pages?", log)
    return int(pages[1]) if pages else 0


def latex_document(document: DocumentClass, body: str) -> str:
    """A document of a class with the packages that tables need."""
    packages = "".join(f"\\usepackage{{{package}}}" for package in PACKAGES)
    return (
        f"{document.preamble}\n\\usepackage[T1]{{fontenc}}\n{packages}\n\\pagestyle{{empty}}\n"
        f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )


def compile_latex(source: str, folder: Path, *, times: int = 1) -> tuple[Path, str]:
    """Compile a document in a folder; returns the PDF and the log.

    Raises:
      ResultsError: If there is no pdflatex, or it stops at an error.
    """
    if shutil.which("pdflatex") is None:
        raise ResultsError(
            "There is no pdflatex. Install it with apt-get install texlive-latex-extra texlive-science "
            "texlive-fonts-recommended, or use --format tex."
        )
    (folder / "paper.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for _ in range(times):
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S
        )
        log = ended.stdout.decode(errors="replace")
        if ended.returncode:
            problem = next((line for line in log.splitlines() if line.startswith("!")), log[-500:])
            raise ResultsError(f"pdflatex stopped: {problem}")
    return folder / "paper.pdf", log
