"""One grid of text as Markdown, LaTeX, HTML or plain text."""

from __future__ import annotations

import html
import itertools
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

NONE = "–"
"""Stands where there is no value."""

BELOW = "\x1f"
"""Parts what a cell says from what stands below it, smaller, where lines may be stacked; elsewhere it is a space."""

MIN_NOTE_WIDTH = 100  # Characters; notes of a narrow table need not be a column.


@dataclass(frozen=True)
class Grid:
    """A table ready to be typeset: plain text in every cell, escaped by whoever typesets it."""

    title: str
    columns: tuple[str, ...]
    groups: tuple[tuple[tuple[str, ...], ...], ...]
    """Rows in groups; lines part the groups."""
    notes: tuple[str, ...] = ()
    labels: int = 1
    """How many of the first columns hold names; the others hold numbers."""
    bold: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    """Cells to stress, as (row, column), rows counted through all groups."""

    def __post_init__(self) -> None:
        """Refuse ragged rows."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"Wanted a cell for each column of {self.columns}; got {row}.")

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The rows of all groups."""
        return [row for group in self.groups for row in group]

    def typeset(
        self, cell: Callable[[str], str], stressed: Callable[[str], str], *, stacked: bool = False
    ) -> list[list[list[tuple[str, str]]]]:
        """The groups of rows, every cell escaped by `cell`, those in bold then passed through `stressed`.

        A cell is what it says and what stands below that; the latter is empty, and part of the former,
        unless `stacked`. Only the former is stressed.
        """
        numbers = itertools.count()
        groups = []
        for group in self.groups:
            rows = []
            for row, number in zip(group, numbers, strict=False):
                parts = [text.partition(BELOW)[::2] if stacked else (text, "") for text in row]
                rows.append(
                    [
                        (stressed(cell(said)) if (number, column) in self.bold else cell(said), cell(below))
                        for column, (said, below) in enumerate(parts)
                    ]
                )
            groups.append(rows)
        return groups


def head(label: str) -> str:
    """A label to stand over a column: a remark in brackets at its end goes below the name."""
    name, space, remark = label.rpartition(" (")
    return f"{name}{BELOW}({remark}" if space and remark.endswith(")") else label


def to_markdown(grid: Grid) -> str:
    """The grid as a table of GitHub-flavoured Markdown, its title in bold and its notes as a list."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    rule = "| " + " | ".join("---" if i < grid.labels else "---:" for i in range(len(grid.columns))) + " |"
    groups = grid.typeset(_markdown, lambda text: f"**{text}**")
    rows = [line([said for said, _ in row]) for group in groups for row in group]
    table = "\n".join([line([_markdown(column) for column in grid.columns]), rule, *rows])
    notes = "\n".join(f"- {_markdown(note)}" for note in grid.notes)
    return f"**{_markdown(grid.title)}**\n\n{table}\n" + (f"\n{notes}\n" if notes else "")


def to_tex(grid: Grid) -> str:
    r"""The grid as a `tabular` for `\input` into a table of a document that uses booktabs.

    Notes follow below in a minipage. The title is a comment, since captions are the document's.
    """

    def lines(row: Sequence[tuple[str, str]]) -> str:
        said, below = ([part[i] for part in row] for i in (0, 1))
        if not any(below):
            return f"{' & '.join(said)} \\\\"
        small = [f"{{\\scriptsize {text}}}" if text else "" for text in below]
        return f"{' & '.join(said)} \\\\[-2pt]\n{' & '.join(small)} \\\\"

    typeset = grid.typeset(escape_tex, lambda text: f"\\textbf{{{text}}}", stacked=True)
    for group in typeset:  # A name that is that of the row above is not said again.
        names = [row[0] for row in group]
        for row, name, above in zip(group[1:], names[1:], names, strict=False):
            row[0] = ("", "") if name == above else name
    # Rows of two lines need air between them to be told apart.
    stacks = any(below for group in typeset for row in group for _, below in row)
    between = "\n\\addlinespace[2pt]\n" if stacks else "\n"
    groups = [between.join(map(lines, group)) for group in typeset]
    heads = [column.partition(BELOW) for column in grid.columns]
    columns = [(escape_tex(said), escape_tex(below)) for said, _, below in heads]
    alignment = "l" * grid.labels + "r" * (len(grid.columns) - grid.labels)
    parts = [
        f"% {_one_line(grid.title)}",
        f"\\begin{{tabular}}{{{alignment}}}",
        "\\toprule",
        lines(columns),
        "\\midrule",
        "\n\\midrule\n".join(groups),
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
    """The grid as a `<table>` with a caption and a body per group, its notes as a list below."""

    def stack(said: str, below: str) -> str:
        return f"{said}<br><small>{below}</small>" if below else said

    def line(row: Sequence[tuple[str, str]]) -> str:
        cells = [stack(*parts) for parts in row]
        heads = "".join(f'<th scope="row">{cell}</th>' for cell in cells[: grid.labels])
        return f"<tr>{heads}{''.join(f'<td>{cell}</td>' for cell in cells[grid.labels :])}</tr>"

    columns = [stack(*map(_html, column.partition(BELOW)[::2])) for column in grid.columns]
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    groups = grid.typeset(_html, lambda text: f"<strong>{text}</strong>", stacked=True)
    bodies = "\n".join("<tbody>\n" + "\n".join(map(line, group)) + "\n</tbody>" for group in groups)
    notes = "\n".join(f"<li>{_html(note)}</li>" for note in grid.notes)
    return (
        f"<table>\n<caption>{_html(grid.title)}</caption>\n<thead><tr>{head}</tr></thead>\n{bodies}\n</table>\n"
        + (f'<ul class="notes">\n{notes}\n</ul>\n' if notes else "")
    )


def to_text(grid: Grid) -> str:
    """The grid in columns of a fixed-width font."""
    rows = [tuple(map(_one_line, row)) for row in [grid.columns, *grid.rows]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        padded = [
            cell.ljust(width) if i < grid.labels else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_one_line(grid.title), "", line(rows[0])]
    for group in grid.groups:
        lines += [rule, *(line(tuple(map(_one_line, row))) for row in group)]
    width = max(MIN_NOTE_WIDTH, len(rule))
    notes = [textwrap.fill(_one_line(note), width, subsequent_indent="  ") for note in grid.notes]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


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
    "[": "{[}",  # After a line's end LaTeX would take a bracket for the height of a gap.
    "]": "{]}",
    "–": "--",
    "−": "$-$",  # LaTeX knows the letters of languages, but not these.
    "×": r"$\times$",
    "±": r"$\pm$",
}


def escape_tex(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(_TEX.get(character, character) for character in _one_line(text))


def _markdown(text: str) -> str:
    # Underscores within words stay, for they mean nothing there.
    return re.sub(r"[\\`*|<>]|(?<!\w)_|_(?!\w)", lambda match: "\\" + match[0], _one_line(text))


def _html(text: str) -> str:
    return html.escape(_one_line(text))


def _one_line(text: str) -> str:
    return re.sub(r"\s*[\r\n]\s*", " ", text.replace(BELOW, " "))
