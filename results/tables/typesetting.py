"""Typeset a grid as Markdown, HTML or plain text, and a data frame as CSV."""

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

    heads, groups = _typeset(grid, _markdown, "**{}**", "<u>{}</u>")
    rule = line(["---" if i < grid.labels else "---:" for i in range(len(heads))])
    rows = [line([text for text, _ in row]) for group in groups for row in group]
    table = "\n".join([line([text for text, _ in heads]), rule, *rows])
    notes = "\n".join(f"- {_markdown(note)}" for note in grid.notes)
    return f"**{_markdown(grid.title)}**\n\n{table}\n" + (f"\n{notes}\n" if notes else "")


def to_html(grid: Grid) -> str:
    """The grid as a `<table>` that scrolls sideways, with a body per group, and its notes as a list below."""

    def stack(text: _Text) -> str:
        main, below = text
        return f"{main}<br><small>{below}</small>" if below else main

    def line(row: Sequence[_Text]) -> str:
        cells = list(map(stack, row))
        names = "".join(f'<th scope="row">{cell}</th>' for cell in cells[: grid.labels])
        return f"<tr>{names}{''.join(f'<td>{cell}</td>' for cell in cells[grid.labels :])}</tr>"

    heads, groups = _typeset(grid, _html, "<strong>{}</strong>", "<u>{}</u>", stacked=True)
    head = "".join(f'<th scope="col">{stack(text)}</th>' for text in heads)
    bodies = "\n".join("<tbody>\n" + "\n".join(map(line, group)) + "\n</tbody>" for group in groups)
    notes = "\n".join(f"<li>{_html(note)}</li>" for note in grid.notes)
    return (
        f'<div class="scroll"><table>\n<caption>{_html(grid.title)}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"{bodies}\n</table></div>\n" + (f'<ul class="notes">\n{notes}\n</ul>\n' if notes else "")
    )


def to_text(grid: Grid) -> str:
    """The grid in columns of a fixed-width font."""
    heads, groups = _typeset(grid, one_line, "{}", "{}")
    rows = [heads, *(row for group in groups for row in group)]
    widths = [max(len(text) for text, _ in column) for column in zip(*rows, strict=True)]

    def line(row: Sequence[_Text]) -> str:
        padded = [
            text.ljust(width) if i < grid.labels else text.rjust(width)
            for i, ((text, _), width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [one_line(grid.title), "", line(heads)]
    for group in groups:
        lines += [rule, *map(line, group)]
    width = max(MIN_NOTE_WIDTH, len(rule))
    notes = [textwrap.fill(one_line(note), width, subsequent_indent="  ") for note in grid.notes]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _typeset(
    grid: Grid, escape: Callable[[str], str], bold: str, underlined: str, *, stacked: bool = False
) -> tuple[list[_Text], list[list[list[_Text]]]]:
    """The escaped texts of the headings and of the groups of rows; details join the main text unless `stacked`.

    Args:
      bold, underlined: Templates for a text that is stressed. Details never are.
    """

    def text(main: str, below: str, template: str = "{}") -> _Text:
        if below and not stacked:
            main, below = f"{main} {below}", ""
        return template.format(escape(main)), escape(below)

    def entry(cell: Cell | str) -> _Text:
        if isinstance(cell, str):
            return text(cell, "")
        texts = cell.texts(grid.options)
        return text(texts.main, texts.details, bold if cell.bold else underlined if cell.underlined else "{}")

    groups = [[[entry(cell) for cell in row] for row in group] for group in grid.groups]
    return [text(*split_remark(name)) for name in grid.columns], groups


def split_remark(name: str) -> tuple[str, str]:
    """A name and the remark in parentheses at its end, such as `(untrained)`; the remark may be empty."""
    start, space, remark = name.rpartition(" (")
    return (start, f"({remark}") if space and remark.endswith(")") else (name, "")


_MARKUP = re.compile(
    r"[\\`*|<>#]|(?<!\w)_|_(?!\w)"  # Underscores within words have no meaning.
    r"|\[(?![−+-]?[\d.]+, [−+-]?[\d.]+\](?![(\[:]))"  # A bracket may begin a link or an image, an interval does not.
)
_SPECIAL = re.compile(r"[~$]|&(?=[#\w])|(?<=\w):(?=//)|(?i:(?<=www)\.)")
"""Strokes, formulas, entities and addresses, which not every dialect lets a backslash escape."""


def _markdown(text: str) -> str:
    escaped = _MARKUP.sub(lambda match: "\\" + match[0], one_line(text))
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", escaped)


def _html(text: str) -> str:
    return html.escape(one_line(text))


def to_csv(frame: pd.DataFrame) -> str:
    """A data frame as CSV, in which no text is a formula of a spreadsheet: those that could be begin with `'`."""

    def field(value: object) -> object:
        text = one_line(value) if isinstance(value, str) else ""
        return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text or value

    return frame.map(field).rename(columns=field).to_csv(index=False, lineterminator="\n")


def one_line(text: str) -> str:
    """A text without line breaks, tabs and characters that terminals act on."""
    return printable(re.sub(r"\s*[\r\n\u2028\u2029\x85]\s*|\t", " ", text))
