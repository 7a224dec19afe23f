"""Folder with what a paper takes from runs: tables, figures, methods, references, numbers, and their sources."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simloop.results.errors import ResultsError
from simloop.results.figures.style import figure_bytes
from simloop.results.records.ledger import LedgerError
from simloop.results.records.records import CONFIG, EPISODES, PROVENANCE, QUERIES
from simloop.results.records.runs import Runs, RunSource, load_runs
from simloop.results.report.details import Details
from simloop.results.report.numbers import Number, numbers, numbers_tex
from simloop.results.statistics.contrasts import MARGIN
from simloop.results.tables.choice import printed_policies
from simloop.results.tables.document_class import DOCUMENT_CLASSES, DocumentClass
from simloop.results.tables.latex import PACKAGES, sentence
from simloop.results.tables.options import DEFAULT_OPTIONS, TableName, TableOptions
from simloop.results.tables.run_tables import table
from simloop.results.tables.typesetting import to_csv
from simloop.untrusted import read_json_object

MANIFEST = "MANIFEST.json"
NUMBERS = "numbers.tex"
SOURCES = (EPISODES, QUERIES, CONFIG, PROVENANCE)
"""Files of a run whose hashes the manifest holds."""
PAPER_FORMATS = ("pdf", "svg")
SPANS = {"column": 1, "page": 2}
"""Widths of figures, by the ends of their names."""


def write_paper(
    runs: Sequence[str | Path | RunSource], out: Path, options: TableOptions = DEFAULT_OPTIONS
) -> Path:
    """Write the folder of a paper; returns the path of its manifest. Other files in the folder stay.

    The same records give the same bytes.

    Args:
      runs: Folders, each as `FOLDER` or `NAME=FOLDER`.
      out: Folder to create, or one that was written before.
      options: Choices of all tables and numbers; the document class also of the figures.

    Raises:
      ResultsError: If no episode has finished, or a file in the way was not written by simloop.
      LedgerError: If a folder is not that of a run, its records were altered, or runs cannot be joined.
    """
    loaded = load_runs(list(runs))
    if loaded.episodes.empty:
        raise ResultsError("No episode of these runs has finished, so there is nothing to write about yet.")
    found = numbers(loaded, options)
    files = dict(_files(loaded, options, found))
    before = _written_before(out)
    for name in files:
        if (out / name).exists() and name not in before:
            raise ResultsError(
                f"{out / name} was not written by simloop and is in the way. Move it or name another folder."
            )
    files[MANIFEST] = _manifest(loaded, out, options, found, files)
    for name in before - set(files):
        (out / name).unlink(missing_ok=True)
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    return out / MANIFEST


def _files(runs: Runs, options: TableOptions, found: Mapping[str, Number]) -> Iterator[tuple[str, bytes]]:
    document = DOCUMENT_CLASSES[options.document or "article"]
    details = Details(runs, MARGIN, 0.05, options.looked_at, printed_policies(runs, options))
    tables, figures = [], []
    for name, choice in _choices(options, details.tables):
        made = table(runs, choice)
        try:
            texts = {"tex": made.to_latex(), "md": made.to_markdown(), "csv": to_csv(made.to_frame())}
        except LedgerError:  # Of lost queries.
            continue
        tables.append(name)
        yield from ((f"tables/{name}.{format}", text.encode()) for format, text in texts.items())
    for name, drawing in details.figures.items():
        figures.append((name, drawing.caption))
        for end, columns in SPANS.items():
            figure, data = drawing.figure(document.inches(columns), document)
            for format in PAPER_FORMATS:
                yield f"figures/{name}-{end}.{format}", figure_bytes(figure, format, document)
        yield f"figures/{name}.csv", to_csv(data).encode()
    yield NUMBERS, numbers_tex(found).encode()
    yield "methods.tex", details.methods.tex(sentence).encode()
    yield "references.bib", details.methods.bibtex.encode()
    yield "example.tex", _example(document, tables, figures, list(found)).encode()


def _choices(options: TableOptions, names: Sequence[TableName]) -> Iterator[tuple[str, TableOptions]]:
    """Every table with content, and the means of all suites by policy."""
    own = {"caption": "", "label": ""}
    yield (
        "means",
        dataclasses.replace(
            options, only="success", per="suite", rows="policies", label="tab:means", caption=""
        ),
    )
    for name in names:
        label = {"label": f"tab:{name}"} if name != "success" or not options.label else {}
        yield name, dataclasses.replace(options, **{"only": name, **own, **label})  # type: ignore[arg-type]


def _example(
    document: DocumentClass, tables: Sequence[str], figures: Sequence[tuple[str, str]], keys: Sequence[str]
) -> str:
    """A document with all tables, figures, the methods and some numbers, to compile and to copy from."""
    packages = "".join(f"\\usepackage{{{package}}}" for package in (*PACKAGES, "graphicx"))
    rates = [key for key in keys if key.startswith("rate/")][-3:]
    lines = [
        f"{document.preamble}\n\\usepackage[T1]{{fontenc}}\n{packages}",
        "\\input{numbers}",
        "\\title{What the runs show}\n\\author{}\n\\date{}\n\\begin{document}\n\\maketitle",
        "\\section{Methods}\n\\input{methods}",
        "\\section{Results}",
        *(rf"The runs give \simloop{{{key}}}\,\%." for key in rates),
        *(f"\\input{{tables/{name}}}" for name in tables),
    ]
    for name, caption in figures:
        lines.append(
            f"\\begin{{figure}}[tbp]\n\\centering\n\\includegraphics{{figures/{name}-column}}\n"
            f"\\caption{{{sentence(caption)}}}\n\\label{{fig:{name}}}\n\\end{{figure}}"
        )
    lines.append("\\clearpage\n\\bibliographystyle{plain}\n\\bibliography{references}\n\\end{document}")
    return "\n".join(lines) + "\n"


def _manifest(
    runs: Runs, out: Path, options: TableOptions, found: Mapping[str, Number], files: Mapping[str, bytes]
) -> bytes:
    return (
        json.dumps(
            {
                "runs": [
                    {
                        "name": source.name,
                        "folder": Path(os.path.relpath(source.folder.resolve(), out.resolve())).as_posix(),
                        "sha256": run_hashes(source.folder),
                    }
                    for source in runs.sources
                ],
                "options": _given(options, out),
                "numbers": {key: {"text": one.text, "runs": list(one.runs)} for key, one in found.items()},
                "files": {
                    name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())
                },
            },
            indent=1,
            ensure_ascii=False,
        )
        + "\n"
    ).encode()


def _given(options: TableOptions, out: Path) -> dict[str, Any]:
    """The options that are given, as JSON."""
    given = {}
    for name, value in options.given.items():
        if isinstance(value, Path):
            value = Path(os.path.relpath(value.resolve(), out.resolve())).as_posix()
        given[name] = (
            dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
        )
    return given


def run_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a run that numbers come from."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in SOURCES
        if (folder / name).is_file()
    }


def _written_before(out: Path) -> set[str]:
    """Files of an earlier call, by its manifest."""
    if not (out / MANIFEST).is_file():
        return set()
    listed = read_json_object(out / MANIFEST, error=ResultsError).get("files", {})
    return {
        MANIFEST,
        *(name for name in listed if ".." not in Path(name).parts and not Path(name).is_absolute()),
    }
