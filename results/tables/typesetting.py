"""Typeset a grid as Markdown, LaTeX, HTML or plain text, and a data frame as CSV."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from simloop.results.tables.grid import Cell, Grid
from simloop.untrusted import printable

if TYPE_CHECKING:
    import pandas as pd

MIN_NOTE_WIDTH = 100  # Characters; notes below a narrow table may be wider than the table.

_Text = tuple[str, str]  # Of a cell: the main text, and details to put below it in smaller type.


def to_markdown(grid: Grid) -> str:
    """The grid as a table of GitHub-flavoured Markdown, its title in bold and its notes as a list."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    heads, groups = _typeset(grid, _markdown, "**{}**")
    rule = line(["---" if i < grid.labels else "---:" for i in range(len(heads))])
    rows = [line([text for text, _ in row]) for group in groups for row in group]
    table = "\n".join([line([text for text, _ in heads]), rule, *rows])
    notes = "\n".join(f"- {_markdown(note)}" for note in grid.notes)
    return f"**{_markdown(grid.title)}**\n\n{table}\n" + (f"\n{notes}\n" if notes else "")


def to_tex(grid: Grid) -> str:
    r"""The grid as a `tabular` for `\input` into a table of a document that uses booktabs.

    Notes follow in a minipage. The title is a comment, since captions belong to the document.
    """

    def lines(row: Sequence[_Text]) -> str:
        main, below = ([text[i] for text in row] for i in (0, 1))
        if not any(below):
            return f"{' & '.join(main)} \\\\"
        small = [f"{{\\scriptsize {text}}}" if text else "" for text in below]
        return f"{' & '.join(main)} \\\\[-2pt]\n{' & '.join(small)} \\\\"

    heads, groups = _typeset(grid, escape_tex, r"\textbf{{{}}}", stacked=True)
    for group in groups:  # A name that repeats the one above is left blank.
        names = [row[0] for row in group]
        for row, name, above in zip(group[1:], names[1:], names, strict=False):
            row[0] = ("", "") if name == above else name
    # Rows of two lines need space between them.
    stacks = any(below for group in groups for row in group for _, below in row)
    between = "\n\\addlinespace[2pt]\n" if stacks else "\n"
    parts = [
        f"% {_one_line(grid.title)}",
        f"\\begin{{tabular}}{{{'l' * grid.labels}{'r' * (len(heads) - grid.labels)}}}",
        "\\toprule",
        lines(heads),
        "\\midrule",
        "\n\\midrule\n".join(between.join(map(lines, group)) for group in groups),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    if grid.notes:
        notes = " \\\\\n".join(map(escape_tex, grid.notes))
        parts += [
            "\\par\\smallskip",
            f"\\begin{{minipage}}{{\\linewidth}}\\footnotesize\n{notes}\n\\end{{minipage}}",
        ]
    return "\n".join(parts) + "\n"


def to_html(grid: Grid) -> str:
    """The grid as a `<table>` that scrolls sideways, with a body per group, and its notes as a list below."""

    def stack(text: _Text) -> str:
        main, below = text
        return f"{main}<br><small>{below}</small>" if below else main

    def line(row: Sequence[_Text]) -> str:
        cells = list(map(stack, row))
        names = "".join(f'<th scope="row">{cell}</th>' for cell in cells[: grid.labels])
        return f"<tr>{names}{''.join(f'<td>{cell}</td>' for cell in cells[grid.labels :])}</tr>"

    heads, groups = _typeset(grid, _html, "<strong>{}</strong>", stacked=True)
    head = "".join(f'<th scope="col">{stack(text)}</th>' for text in heads)
    bodies = "\n".join("<tbody>\n" + "\n".join(map(line, group)) + "\n</tbody>" for group in groups)
    notes = "\n".join(f"<li>{_html(note)}</li>" for note in grid.notes)
    return (
        f'<div class="scroll"><table>\n<caption>{_html(grid.title)}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"{bodies}\n</table></div>\n" + (f'<ul class="notes">\n{notes}\n</ul>\n' if notes else "")
    )


def to_text(grid: Grid) -> str:
    """The grid in columns of a fixed-width font."""
    heads, groups = _typeset(grid, _one_line, "{}")
    rows = [heads, *(row for group in groups for row in group)]
    widths = [max(len(text) for text, _ in column) for column in zip(*rows, strict=True)]

    def line(row: Sequence[_Text]) -> str:
        padded = [
            text.ljust(width) if i < grid.labels else text.rjust(width)
            for i, ((text, _), width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_one_line(grid.title), "", line(heads)]
    for group in groups:
        lines += [rule, *map(line, group)]
    width = max(MIN_NOTE_WIDTH, len(rule))
    notes = [textwrap.fill(_one_line(note), width, subsequent_indent="  ") for note in grid.notes]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _typeset(
    grid: Grid, escape: Callable[[str], str], bold: str, *, stacked: bool = False
) -> tuple[list[_Text], list[list[list[_Text]]]]:
    """The escaped texts of the headings and of the groups of rows; details join the main text unless `stacked`.

    Args:
      bold: Template for a text in bold. Details are never bold.
    """

    def text(main: str, below: str, strong: bool = False) -> _Text:
        if below and not stacked:
            main, below = f"{main} {below}", ""
        return bold.format(escape(main)) if strong else escape(main), escape(below)

    def head(name: str) -> _Text:
        start, space, remark = name.rpartition(" (")
        return text(start, f"({remark}") if space and remark.endswith(")") else text(name, "")

    def entry(cell: Cell | str) -> _Text:
        return text(cell, "") if isinstance(cell, str) else text(*cell.texts(grid.style), cell.bold)

    groups = [[[entry(row[i]) for i in grid.shown] for row in group] for group in grid.groups]
    return [head(grid.columns[i]) for i in grid.shown], groups


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
    "–": "--",
    "−": "$-$",  # LaTeX knows the letters of languages, but not these symbols.
    "×": r"$\times$",
    "±": r"$\pm$",
}


def escape_tex(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(_TEX.get(character, character) for character in _one_line(text))


_MARKUP = re.compile(
    r"[\\`*|<>#]|(?<!\w)_|_(?!\w)"  # Underscores within words have no meaning.
    r"|\[(?![−+-]?[\d.]+, [−+-]?[\d.]+\](?![(\[:]))"  # A bracket may begin a link or an image, an interval does not.
)
_SPECIAL = re.compile(r"[~$]|&(?=[#\w])|(?<=\w):(?=//)|(?i:(?<=www)\.)")
"""Strokes, formulas, entities and addresses, which not every dialect lets a backslash escape."""


def _markdown(text: str) -> str:
    escaped = _MARKUP.sub(lambda match: "\\" + match[0], _one_line(text))
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", escaped)


def _html(text: str) -> str:
    return html.escape(_one_line(text))


def to_csv(frame: pd.DataFrame) -> str:
    """A data frame as CSV, in which no text is a formula of a spreadsheet: those that could be begin with `'`."""

    def field(value: object) -> object:
        text = _one_line(value) if isinstance(value, str) else ""
        return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text or value

    return frame.map(field).rename(columns=field).to_csv(index=False, lineterminator="\n")


def _one_line(text: str) -> str:
    return printable(re.sub(r"\s*[\r\n\u2028\u2029\x85]\s*|\t", " ", text))
