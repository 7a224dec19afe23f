"""Find every marked number in the text of a paper, and say which no longer agrees with the runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simloop.results.errors import ResultsError
from simloop.results.records.ledger import LedgerError
from simloop.results.records.runs import RunSource, load_runs
from simloop.results.report.numbers import MACROS, Number, numbers
from simloop.results.report.paper import MANIFEST, NUMBERS, run_hashes
from simloop.results.tables.latex import escape_tex
from simloop.results.tables.options import table_options
from simloop.untrusted import read_bytes, read_json_object

MAX_BYTES = 16 << 20
Verdict = Literal["agrees", "outdated", "contradicted", "unknown"]

_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*")
_INPUT = re.compile(r"\\(?:input|include)\s*\{([^{}]+)\}")
_LITERAL = re.compile(r"\\simloop\s*(?:\[([^\]]*)\])?\s*\{([^{}]+)\}")
_MACRO = re.compile(r"\\(" + "|".join(MACROS) + r")\s*((?:\{[^{}]*\}\s*){2,3})")
_DEFINED = re.compile(r"\\@namedef\{simloop@([^{}]+)\}\{(.*)\}$", re.MULTILINE)


@dataclass(frozen=True)
class MarkedNumber:
    """A number in the text, and whether the runs say the same."""

    file: Path
    line: int
    key: str
    printed: str
    """What the text prints, in LaTeX; empty if nothing is known under the key."""
    now: str
    """What the runs give, in LaTeX; empty if they give nothing."""
    verdict: Verdict

    def __str__(self) -> str:
        """Where it stands and what is wrong."""
        where = f"{self.file}:{self.line}: {self.key}"
        return {
            "agrees": f"{where} is {self.printed}",
            "outdated": f"{where} is printed as {self.printed or 'nothing'}, the runs give {self.now}; "
            "write the folder again with simloop report --paper",
            "contradicted": f"{where} stands in the text as {self.printed}, the runs give {self.now}",
            "unknown": f"{where} is no number of the runs",
        }[self.verdict]


@dataclass(frozen=True)
class PaperCheck:
    """All marked numbers of a paper."""

    numbers: tuple[MarkedNumber, ...]
    changed: tuple[str, ...]
    """Runs whose files are not those that the folder was written from, in sentences."""

    @property
    def wrong(self) -> list[MarkedNumber]:
        """Numbers that do not agree with the runs."""
        return [one for one in self.numbers if one.verdict != "agrees"]


def check_paper(main: Path, runs: Sequence[str | Path | RunSource] = ()) -> PaperCheck:
    r"""Compare every `\simloop{KEY}`, and every macro of `numbers.tex`, with the runs.

    Args:
      main: The document; files that it inputs are read as well.
      runs: Runs in place of those in the manifest beside `numbers.tex`.

    Raises:
      ResultsError: If the document does not input a `numbers.tex` that `simloop report --paper` wrote.
      LedgerError: If a run cannot be read.
    """
    files = list(_sources(main, main.parent, set()))
    beside = [file.parent for file, _ in files if file.name == NUMBERS and (file.parent / MANIFEST).is_file()]
    if not beside:
        raise ResultsError(
            f"{main} does not \\input a {NUMBERS} with a {MANIFEST} beside it. Write both with simloop report RUN "
            "--paper DIR."
        )
    folder = beside[0]
    manifest = read_json_object(folder / MANIFEST, error=ResultsError)
    sources = [RunSource(folder / one["folder"], one["name"]) for one in manifest["runs"]]
    changed = [] if runs else list(_changed(sources, [one["sha256"] for one in manifest["runs"]]))
    options = table_options(manifest["options"], f"The options in {folder / MANIFEST}")
    try:
        known = numbers(load_runs(list(runs) or sources), options)
    except LedgerError as error:
        raise ResultsError(f"{error} Name the runs with --run if they have moved.") from error
    defined = {
        key: text for file, text_ in files if file.name == NUMBERS for key, text in _DEFINED.findall(text_)
    }
    found = [
        _judged(file, line, key, literal, defined, known)
        for file, text in files
        if file.name != NUMBERS
        for line, key, literal in _marked(text)
    ]
    return PaperCheck(tuple(found), tuple(changed))


def _sources(file: Path, root: Path, seen: set[Path]) -> Iterator[tuple[Path, str]]:
    """The document and the files that it inputs, without comments."""
    path = file if file.suffix else file.with_name(f"{file.name}.tex")
    if path in seen:
        return
    seen.add(path)
    raw = read_bytes(path, MAX_BYTES, error=ResultsError).decode(errors="replace")
    text = raw if path.name == NUMBERS else _COMMENT.sub(r"\1", raw)
    yield path, text
    for name in _INPUT.findall(text):
        inner = root / name.strip()
        if (inner if inner.suffix else inner.with_name(f"{inner.name}.tex")).is_file():
            yield from _sources(inner, root, seen)


def _marked(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, key and literal of every marked number; the literal is empty where the macro prints it."""
    for number, line in enumerate(text.splitlines(), 1):
        for literal, key in _LITERAL.findall(line):
            yield number, key.strip(), literal.strip()
        for macro, arguments in _MACRO.findall(line):
            kind, count = MACROS[macro]
            parts = re.findall(r"\{([^{}]*)\}", arguments)[:count]
            yield number, "/".join([kind, *parts]), ""


def _judged(
    file: Path, line: int, key: str, literal: str, defined: Mapping[str, str], known: Mapping[str, Number]
) -> MarkedNumber:
    now = escape_tex(known[key].text) if key in known else ""
    printed = literal or defined.get(key, "")
    if key not in known:
        verdict: Verdict = "unknown"
    elif literal:
        verdict = "agrees" if _says(literal, known[key]) else "contradicted"
    else:
        verdict = "agrees" if printed == now else "outdated"
    return MarkedNumber(file, line, key, printed, now, verdict)


def _says(literal: str, number: Number) -> bool:
    """Whether a literal is the number, rounded to the digits of the literal."""
    plain = re.sub(r"\\[,%]|[%$\s~]", "", literal).replace("--", "-").replace("−", "-")
    if plain == re.sub(r"\s", "", number.text).replace("−", "-"):
        return True
    match = re.fullmatch(r"[+-]?\d+(?:\.(\d+))?", plain)
    if match is None or math.isnan(number.exact):
        return False
    return math.isclose(float(plain), round(number.exact, len(match[1] or "")), abs_tol=1e-9)


def _changed(sources: Sequence[RunSource], hashes: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for source, before in zip(sources, hashes, strict=True):
        now = run_hashes(source.folder)
        if other := [name for name, sha256 in before.items() if now.get(name) != sha256]:
            yield f"{source.folder.resolve()}: {', '.join(other)} changed since the folder of the paper was written."
