"""Tables before typesetting: rows of text and measured values, and the style in which to show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simloop.results.errors import ResultsError
from simloop.results.statistics.intervals import Interval

NONE = "–"
"""Stands for a missing value."""


@dataclass(frozen=True)
class TableStyle:
    """Which parts of a measured value to show, and how. The default shows all of them."""

    columns: tuple[str, ...] = ()
    """Headings of the value columns to show, in this order; all if empty."""
    interval: Literal["brackets", "plus-minus", "none"] = "brackets"
    """`70.0 [48.1, 85.5]`, `70.0 ± 21.9` with the longer arm of the interval, or `70.0`."""
    counts: bool = True
    """Show successes and completed episodes beside a rate."""
    letters: bool = True
    """Show the compact letter display, which marks policies that do not differ significantly."""
    decimals: int | None = None
    """Digits after the decimal point; None for the default of each table."""

    def legend(self, interval: str, counts: str = "") -> str:
        """Explain in a sentence what stands beside a value; empty if nothing does."""
        shown = {
            "brackets": f"in brackets the {interval}",
            "plus-minus": f"after ± the longer arm of the {interval}",
            "none": "",
        }[self.interval]
        beside = ("then " if self.interval == "brackets" else "in parentheses ") + counts
        text = "; ".join(filter(None, (shown, beside if counts and self.counts else "")))
        return text[:1].upper() + text[1:] + "." if text else ""


DEFAULT_STYLE = TableStyle()


@dataclass(frozen=True)
class Cell:
    """A measured value with its uncertainty."""

    value: float | None
    """In the unit of the table; None if it is undefined."""
    interval: Interval | None = None
    counts: str = ""
    """What the value was computed from, such as `14/20`."""
    letters: str = ""
    bold: bool = False
    decimals: int = 1
    """Digits after the decimal point, unless the style sets them."""
    signed: bool = False
    """Show a plus before positive numbers."""

    def texts(self, style: TableStyle) -> tuple[str, str]:
        """The value, and the details that may stand below it in smaller type; either may be empty."""
        counts = self.counts if style.counts else ""
        letters = self.letters if style.letters else ""
        if self.value is None:
            return " ".join(filter(None, (NONE, letters))), counts
        value, brackets = self._number(self.value, style), ""
        if self.interval is not None and style.interval == "brackets":
            ends = (self._number(end, style) for end in (self.interval.low, self.interval.high))
            brackets = f"[{', '.join(ends)}]"
        elif self.interval is not None and style.interval == "plus-minus":
            arm = max(self.value - self.interval.low, self.interval.high - self.value)
            value += f" ± {number_text(arm, self._decimals(style))}"
        if brackets:
            return " ".join(filter(None, (value, letters))), " ".join(filter(None, (brackets, counts)))
        return " ".join(filter(None, (value, letters, counts and f"({counts})"))), ""

    def _decimals(self, style: TableStyle) -> int:
        return self.decimals if style.decimals is None else style.decimals

    def _number(self, value: float, style: TableStyle) -> str:
        return number_text(value, self._decimals(style), signed=self.signed)


Row = tuple[Cell | str, ...]


@dataclass(frozen=True)
class Grid:
    """A table ready for typesetting. Its texts are plain; each format escapes them.

    Raises:
      ValueError: If a row has more or fewer cells than there are columns.
      ResultsError: If the style selects columns and the table has none of them.
    """

    title: str
    columns: tuple[str, ...]
    groups: tuple[tuple[Row, ...], ...]
    """Groups of rows, separated by rules."""
    notes: tuple[str, ...] = ()
    labels: int = 1
    """Number of leading columns that hold names; the others hold values."""
    style: TableStyle = DEFAULT_STYLE

    def __post_init__(self) -> None:
        """Check the rows and the selected columns."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"Wanted a cell for each column of {self.columns}; got {row}.")
        values = self.columns[self.labels :]
        if self.style.columns and not set(self.style.columns) & set(values):
            raise ResultsError(
                f"{self.title}: wanted some of the columns {', '.join(values)}; got {', '.join(self.style.columns)}."
            )

    @property
    def rows(self) -> list[Row]:
        """The rows of all groups."""
        return [row for group in self.groups for row in group]

    @property
    def shown(self) -> list[int]:
        """Indices of the columns that the style shows."""
        if not self.style.columns:
            return list(range(len(self.columns)))
        values = self.columns[self.labels :]
        chosen = [self.labels + values.index(name) for name in self.style.columns if name in values]
        return [*range(self.labels), *chosen]


def percent_cell(
    rate: float | None,
    interval: Interval | None = None,
    counts: str = "",
    *,
    letters: str = "",
    bold: bool = False,
    signed: bool = False,
) -> Cell:
    """A cell in percent from a rate and an interval in [0, 1], or in points from a difference in [-1, 1]."""
    return Cell(
        None if rate is None else 100 * rate,
        None if interval is None else interval.scaled(100.0),
        counts,
        letters,
        bold,
        signed=signed,
    )


def number_text(value: float, decimals: int = 1, *, signed: bool = False) -> str:
    """A number as text; with a sign unless it rounds to zero, if `signed`. The minus is as wide as the plus."""
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")
