"""Choose how a table fits on the page of a document class: type size, stacked details, width, and where it is split."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from simloop.results.tables.document_class import DocumentClass
from simloop.results.tables.grid import NONE, CellTexts, Grid
from simloop.results.tables.text_width import text_width
from simloop.results.tables.typesetting import split_remark

SEPARATIONS = (4.0, 2.5)
"""Points on either side of a column; the smaller ones where a table would not fit otherwise."""
MARGIN = 2.0  # Points; rules and kerning are not measured.
NUMBER = re.compile(r"[+−-]?(\d+)(?:\.(\d+))?")
BREAKS = re.compile(r"(?<=[\s_/@:.=-])")
"""Where names may be broken."""
MAX_LABEL = 0.38
"""Share of the width that names of rows take before their lines are broken."""


@dataclass(frozen=True)
class Entry:
    """A cell of a table in LaTeX."""

    texts: CellTexts
    bold: bool = False
    underlined: bool = False

    @property
    def stacked(self) -> Entry:
        """The cell with everything but letters below the number."""
        below = " ".join(filter(None, (self.texts.after, self.texts.details)))
        return dataclasses.replace(self, texts=dataclasses.replace(self.texts, after="", details=below))

    @property
    def is_number(self) -> bool:
        """Whether it can be aligned at its decimal point."""
        return NUMBER.fullmatch(self.texts.number) is not None


@dataclass(frozen=True)
class Layout:
    """A way to typeset a table."""

    document: DocumentClass
    wide: bool
    """Over both columns of the page."""
    size: tuple[str, float]
    stacked: bool
    """Details stand below the numbers rather than beside them."""
    broken: bool = False
    """Headings are broken into lines."""
    separation: float = SEPARATIONS[0]
    """Points on either side of a column."""

    @property
    def width(self) -> float:
        """Points that are available."""
        return self.document.text if self.wide else self.document.column

    def of(self, text: str, *, small: bool = False) -> float:
        """Width of a text in points."""
        return text_width(text, self.document.details[1] if small else self.size[1], self.document.font)


@dataclass(frozen=True)
class Column:
    """A column of values."""

    head: str
    entries: tuple[Entry, ...]

    @cached_property
    def numeric(self) -> bool:
        """Whether it is aligned at the decimal point."""
        known = [one for one in self.entries if one.texts.number != NONE]
        return bool(known) and all(one.is_number for one in known)

    @cached_property
    def digits(self) -> tuple[str, int, int]:
        """Sign, integer digits and decimals that the numbers need."""
        found = [m for one in self.entries if (m := NUMBER.fullmatch(one.texts.number))]
        sign = "+" if any(m[0][0] in "+−-" for m in found) else ""
        return (
            sign,
            max((len(m[1]) for m in found), default=1),
            max((len(m[2] or "") for m in found), default=0),
        )

    @property
    def number(self) -> str:
        """A text as wide as the space that the numbers take."""
        sign, whole, decimals = self.digits
        return sign + "0" * whole + ("." + "0" * decimals if decimals else "")

    def width(self, layout: Layout) -> float:
        """Points that the column needs."""
        number = layout.of(self.number) if self.numeric else 0.0
        inner = []
        for one in self.entries:
            main = number if self.numeric else layout.of(one.texts.number)
            main += layout.of(one.texts.after and "x" + one.texts.after) + 0.75 * layout.of(one.texts.letters)
            details = layout.of(one.texts.details, small=True)
            inner.append(max(main, details) if layout.stacked else main + (details and details + 3.0))
        heads = [layout.of(text, small=text.startswith("(")) for text in self.head_lines(layout)]
        return max([*inner, *heads])

    def _letters(self, layout: Layout) -> int:
        """Characters of the longest text below the heading."""
        beside = (max(len(one.texts.number + one.texts.after) for one in self.entries), 6)
        return max(*beside, *(len(one.texts.details) - 4 for one in self.entries if layout.stacked))

    def head_lines(self, layout: Layout) -> list[str]:
        """Lines of the heading; its remark has a line of its own."""
        name, remark = split_remark(self.head)
        lines = broken_lines(name, self._letters(layout)) if layout.broken else [name]
        return [*lines, remark] if remark else lines


def broken_lines(text: str, least: int) -> list[str]:
    """A name in lines of about `least` characters, broken behind spaces, hyphens and underscores."""
    lines = [""]
    for piece in re.findall(r"[^\s_/-]*[\s_/-]+|[^\s_/-]+$", text) or [text]:
        if lines[-1] and len(lines[-1] + piece.strip()) > least:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


@dataclass(frozen=True)
class Frame:
    """A table as LaTeX needs it: names of rows, columns of values, and where its groups of rows end."""

    labels: tuple[tuple[str, ...], ...]
    """Columns of names, each with its heading first."""
    columns: tuple[Column, ...]
    ends: tuple[int, ...]
    """Numbers of rows up to the end of each group."""

    @classmethod
    def of(cls, grid: Grid) -> Frame:
        """The frame of a table; a name that repeats the one above it in its group is left blank."""
        rows = grid.rows
        ends = tuple(itertools.accumulate(map(len, grid.groups)))
        starts = {0, *ends}
        labels = []
        for i in range(grid.labels):
            names = [str(row[i]) for row in rows]
            repeat = i == 0 and grid.labels > 1
            blanked = [
                "" if repeat and k not in starts and name == names[k - 1] else name
                for k, name in enumerate(names)
            ]
            labels.append((grid.columns[i], *blanked))
        columns = [
            Column(grid.columns[i], tuple(_entry(row[i], grid) for row in rows))
            for i in range(grid.labels, len(grid.columns))
        ]
        return cls(tuple(labels), tuple(columns), ends)

    @property
    def has_details(self) -> bool:
        """Whether any cell has more than its number, which may stand below it."""
        return any(one.texts.details or one.texts.after for column in self.columns for one in column.entries)

    @property
    def stacked(self) -> Frame:
        """The table with everything but letters below the numbers."""
        columns = [
            dataclasses.replace(column, entries=tuple(one.stacked for one in column.entries))
            for column in self.columns
        ]
        return dataclasses.replace(self, columns=tuple(columns))

    def label_widths(self, layout: Layout) -> list[float]:
        """Points that the columns of names take; long names are broken, and continued with an indent of one em."""
        found = [max(layout.of(name) for name in names) for names in self.labels]
        if not layout.broken:
            return found
        pieces = [{piece for name in names for piece in BREAKS.split(name)} for names in self.labels]
        least = [max(map(layout.of, here)) + layout.size[1] for here in pieces]
        most = MAX_LABEL * layout.width
        return [min(width, max(most, piece)) for width, piece in zip(found, least, strict=True)]

    def width(self, layout: Layout) -> float:
        """Points that the table needs."""
        inner = sum(self.label_widths(layout)) + sum(column.width(layout) for column in self.columns)
        return inner + 2 * layout.separation * (len(self.labels) + len(self.columns) - 1) + MARGIN

    def height(self, layout: Layout, row: int) -> float:
        """Points that a row takes."""
        size = layout.size[1] * 1.22
        lines = max(
            math.ceil(layout.of(names[row + 1]) / max(width, 1.0) * 1.05)
            for names, width in zip(self.labels, self.label_widths(layout), strict=True)
        )
        below = layout.stacked and any(column.entries[row].texts.details for column in self.columns)
        return max(size * max(lines, 1), size + (layout.document.details[1] * 1.2 + 3.0 if below else 0.0))

    def rows(self, start: int, end: int) -> Frame:
        """Some of the rows."""
        return Frame(
            tuple((names[0], *names[start + 1 : end + 1]) for names in self.labels),
            tuple(dataclasses.replace(column, entries=column.entries[start:end]) for column in self.columns),
            tuple(e - start for e in self.ends if start < e <= end) or (end - start,),
        )


def _entry(cell: object, grid: Grid) -> Entry:
    if isinstance(cell, str):
        return Entry(CellTexts(cell))
    return Entry(cell.texts(grid.options), cell.bold, cell.underlined)  # type: ignore[attr-defined]


def fitting(frame: Frame, document: DocumentClass, wide: bool | None) -> tuple[Layout, list[Frame]]:
    """The first layout in which a table fits, and the tables that it is split into if it fits in none.

    Args:
      wide: Whether to use the whole width of the page; None for the narrower one that fits.
    """
    for layout in _layouts(frame, document, wide):
        shaped = frame.stacked if layout.stacked else frame
        if shaped.width(layout) <= layout.width:
            return layout, [shaped]
    return layout, list(_panels(shaped, layout))


def _layouts(frame: Frame, document: DocumentClass, wide: bool | None) -> Iterator[Layout]:
    widths = [wide] if wide is not None else [False, True] if document.two_columns else [False]
    for over_both in widths:
        separations = SEPARATIONS if over_both == widths[-1] else SEPARATIONS[:1]
        for separation, broken, size in itertools.product(separations, (False, True), document.sizes):
            for stacked in (False, True) if frame.has_details else (False,):
                yield Layout(document, over_both, size, stacked, broken, separation)


def _panels(frame: Frame, layout: Layout) -> Iterator[Frame]:
    """As many columns as fit, again and again, in parts of about equal width."""
    names = sum(frame.label_widths(layout)) + MARGIN
    room = layout.width - names
    widths = [column.width(layout) + 2 * layout.separation for column in frame.columns]
    share = sum(widths) / max(1, math.ceil(sum(widths) / room))
    middles = [end - width / 2 for end, width in zip(itertools.accumulate(widths), widths, strict=True)]
    start = 0
    for i, middle in enumerate(middles):
        if i > start and (sum(widths[start : i + 1]) > room or middle // share > middles[i - 1] // share):
            yield dataclasses.replace(frame, columns=frame.columns[start:i])
            start = i
    yield dataclasses.replace(frame, columns=frame.columns[start:])


def pages(frame: Frame, layout: Layout, reserved: float) -> list[Frame]:
    """Split a table that is taller than the page at the ends of its groups, or within them where one is too tall.

    Args:
      reserved: Points that caption, heading and notes take.
    """
    room = max(layout.document.height - reserved, 0.3 * layout.document.height)
    heights = [frame.height(layout, row) for row in range(frame.ends[-1])] if frame.ends else []
    if sum(heights) <= room:
        return [frame]
    made, start, used = [], 0, 0.0
    for row, height in enumerate(heights):
        end_of_group = next(end for end in frame.ends if end > row)
        rest = sum(heights[row:end_of_group])
        at_group = row in frame.ends and used + rest > room and used > 0.5 * room
        if row > start and (used + height > room or at_group):
            made.append(frame.rows(start, row))
            start, used = row, 0.0
        used += height
    made.append(frame.rows(start, len(heights)))
    return made


def note_height(sentences: Sequence[str], layout: Layout) -> float:
    """Points that sentences take below a table."""
    width = text_width(" ".join(sentences), 8.0, layout.document.font)
    return 10.0 * math.ceil(1.1 * width / layout.width) if width else 0.0
