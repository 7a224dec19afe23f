"""Tables in LaTeX that compile without edits and fit the document class they are made for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from simloop.results.tables.document_class import DOCUMENT_CLASSES
from simloop.results.tables.grid import NONE, Grid
from simloop.results.tables.latex_layout import (
    Column,
    Entry,
    Frame,
    Layout,
    fitting,
    note_height,
    pages,
)
from simloop.results.tables.options import TableOptions
from simloop.results.tables.typesetting import one_line

PACKAGES = ("booktabs", "siunitx", "threeparttable")
"""Packages that the tables need."""
LEAST_SHARE = 0.6  # Of the width: a narrower table is not stretched to all of it.


def to_latex(grids: Sequence[Grid], options: TableOptions, name: str) -> str:
    r"""The tables as floats for `\input`, or without a float if the options say so.

    Args:
      name: Name of the table, for its label.
    """
    needed = "".join(f"\\usepackage{{{package}}}" for package in PACKAGES)
    made = [f"% Needs {needed}"]
    for number, grid in enumerate(grids):
        ending = f"-{number + 1}" if number else ""
        made += _floats(grid, options, (options.label or f"tab:{name}") + ending)
    return "\n".join(made) + "\n"


def _floats(grid: Grid, options: TableOptions, label: str) -> list[str]:
    document = DOCUMENT_CLASSES[options.document or "article"]
    wide = {"table": False, "table*": True}.get(options.float or "")
    layout, panels = fitting(Frame.of(grid), document, wide)
    notes = note_height(grid.notes, layout)
    reserved = 70.0 + notes
    parts = [part for panel in panels for part in pages(panel, layout, reserved)]
    bare = options.float == "none"
    made = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        body = _threeparttable(part, layout, grid.notes if last else ())
        made.append(f"% {one_line(grid.title)}")
        made.append(
            body if bare else _float(body, layout, _caption(grid, options, number, len(parts)), label, number)
        )
    return made


def _caption(grid: Grid, options: TableOptions, number: int, count: int) -> str:
    text = sentence(options.caption or grid.caption or f"{grid.title}.")
    if count == 1:
        return text
    part = f"Part {number + 1} of {count}"
    return f"{text} {part}{'' if number == count - 1 else '; notes below the last part'}."


def _float(body: str, layout: Layout, caption: str, label: str, number: int) -> str:
    environment = "table*" if layout.wide and layout.document.two_columns else "table"
    named = f"\\label{{{label}}}" if not number else f"\\label{{{label}-part{number + 1}}}"
    lines = [
        f"\\begin{{{environment}}}[tbp]",
        "\\centering",
        "\\setlength{\\belowcaptionskip}{4pt}",
        f"\\caption{{{caption}}}",
        named,
        body,
        f"\\end{{{environment}}}",
    ]
    return "\n".join(lines)


def _threeparttable(frame: Frame, layout: Layout, notes: Sequence[str]) -> str:
    natural = frame.width(layout)
    share = min(1.0, max(LEAST_SHARE, 1.25 * natural / layout.width))
    width = "\\linewidth" if share > 0.9 else f"{share:.2f}\\linewidth"
    names = "".join(_label_column(frame, layout, i) for i in range(len(frame.labels)))
    columns = " ".join(_column(column, layout) for column in frame.columns)
    lines = [
        "\\begin{threeparttable}",
        layout.size[0],
        f"\\setlength{{\\tabcolsep}}{{{layout.separation:g}pt}}",
        f"\\begin{{tabular*}}{{{width}}}{{@{{\\extracolsep{{\\fill}}}}{names} {columns}@{{}}}}",
        "\\toprule",
        _head(frame, layout),
        "\\midrule",
        *_body(frame, layout),
        "\\bottomrule",
        "\\end{tabular*}",
    ]
    if notes:
        said = " ".join(sentence(note.replace("Bold, where typeset", "Bold")) for note in notes)
        lines += [
            "\\begin{tablenotes}[para,flushleft]\\footnotesize\\raggedright",
            said,
            "\\end{tablenotes}",
        ]
    return "\n".join([*lines, "\\end{threeparttable}"])


def _label_column(frame: Frame, layout: Layout, index: int) -> str:
    natural = max(layout.of(name) for name in frame.labels[index])
    width = frame.label_widths(layout)[index]
    if natural <= width:
        return "l"
    return f">{{\\raggedright\\arraybackslash\\hangindent=1em}}p{{{width:.0f}pt}}"


def _name(name: str, index: int, frame: Frame, layout: Layout) -> str:
    broken = layout.of(name) > frame.label_widths(layout)[index]
    name = f"M{name[1:]}" if name.startswith("mean of ") else name
    return _breakable(escape_tex(name)) if broken else escape_tex(name)


def _column(column: Column, layout: Layout) -> str:
    if not column.numeric:
        return "r"
    sign, whole, decimals = column.digits
    after = max((_beside(one, layout) for one in column.entries), key=lambda tex: len(_bare(tex)), default="")
    post = f", table-space-text-post={{{after}}}" if after else ""
    return f"S[table-format={sign}{whole}.{decimals}{post}]"


def _bare(tex: str) -> str:
    return re.sub(r"\\[a-z]+|[{}$]", "", tex)


def _head(frame: Frame, layout: Layout) -> str:
    names = [escape_tex(names[0][:1].upper() + names[0][1:]) for names in frame.labels]
    return " & ".join([*names, *(_heading(column, layout) for column in frame.columns)]) + " \\\\"


def _heading(column: Column, layout: Layout) -> str:
    lines = [
        f"{layout.document.details[0]} {escape_tex(text)}" if text.startswith("(") and i else escape_tex(text)
        for i, text in enumerate(column.head_lines(layout))
    ]
    if len(lines) == 1:
        return f"{{{lines[0]}}}"
    together = "\\\\".join(lines)
    return f"{{\\shortstack{{{together}}}}}"


def _body(frame: Frame, layout: Layout) -> list[str]:
    lines = []
    count = frame.ends[-1] if frame.ends else 0
    for row in range(count):
        entries = [(column, column.entries[row]) for column in frame.columns]
        names = [_name(names[row + 1], i, frame, layout) for i, names in enumerate(frame.labels)]
        below = [_details(entry, layout) if layout.stacked else "" for _, entry in entries]
        main = " & ".join([*names, *(_cell(column, entry, layout) for column, entry in entries)])
        if any(below):
            lines.append(f"{main} \\\\[-1pt]")
            lines.append(" & ".join([*([""] * len(names)), *below]) + " \\\\")
        else:
            lines.append(f"{main} \\\\")
        if row + 1 == count:
            continue
        if row + 1 in frame.ends:
            lines.append("\\midrule")
        elif any(below):
            lines.append("\\addlinespace[2pt]")
    return lines


def _cell(column: Column, entry: Entry, layout: Layout) -> str:
    beside = _beside(entry, layout)
    number = entry.texts.number
    if not column.numeric:
        return _stressed(escape_tex(number), entry) + beside
    if not entry.is_number:
        return f"{{{escape_tex(number)}{beside}}}"
    if not entry.bold and not entry.underlined:
        plain = number.replace("−", "-")
        return f"{plain} {{{beside}}}" if beside else plain
    # In a box as wide as the numbers of the column, since siunitx would not recognize a command as a number.
    room = "\\phantom{" + column.number.replace("+", "$-$") + "}"
    after = max((_beside(one, layout) for one in column.entries), key=lambda tex: len(_bare(tex)), default="")
    filled = f"\\rlap{{{beside}}}\\phantom{{{after}}}" if after else ""
    return f"{{{room}\\llap{{{_stressed(escape_tex(number), entry)}}}{filled}}}"


def _stressed(tex: str, entry: Entry) -> str:
    return f"\\textbf{{{tex}}}" if entry.bold else f"\\underline{{{tex}}}" if entry.underlined else tex


def _beside(entry: Entry, layout: Layout) -> str:
    """What follows the number in its line."""
    texts = entry.texts
    after = f"\\,{escape_tex(texts.after)}" if texts.after else ""
    letters = f"\\textsuperscript{{{escape_tex(texts.letters)}}}" if texts.letters else ""
    details = "" if layout.stacked or not texts.details else f"\\ {_details(entry, layout)}"
    return after + letters + details


def _details(entry: Entry, layout: Layout) -> str:
    details = entry.texts.details
    return f"{{{layout.document.details[0]} {escape_tex(details)}}}" if details else ""


GREEK = {"Δ": "Delta"} | {
    letter: unicodedata.name(letter).removeprefix("GREEK SMALL LETTER ").lower().replace("lamda", "lambda")
    for letter in "αβγδεζηθικλμνξπρστυφχψω"
}
"""Greek letters by their names in LaTeX."""
_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # After the end of a line LaTeX would read a bracket as the height of a gap.
    "]": "{]}",
    NONE: "--",
    "−": "$-$",  # LaTeX knows the letters of languages, but not these symbols.
    "×": r"$\times$",
    "±": r"$\pm$",
    **{letter: f"$\\{name}$" for letter, name in GREEK.items()},
}
_DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")


def escape_tex(text: str) -> str:
    """Escape text for LaTeX."""
    escaped = "".join(_TEX.get(character, character) for character in one_line(text))
    return re.sub(r"[₀-₉]+(?:\.[₀-₉]+)*", lambda match: f"$_{{{match[0].translate(_DIGITS)}}}$", escaped)


def sentence(text: str) -> str:
    """Escape a sentence for LaTeX; long names in it may be broken, and a number stays with its percent sign."""
    return _breakable(re.sub(r"(?<=\d) \\%", r"\\,\\%", escape_tex(text)))


def _breakable(tex: str) -> str:
    """Allow lines to be broken within long names."""

    def broken(match: re.Match[str]) -> str:
        return re.sub(r"(\\_|[/@:.=-])(?=[^\s])", r"\1\\allowbreak{}", match[0])

    return re.sub(r"\S{16,}", broken, tex)
