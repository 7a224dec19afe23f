"""Tables before typesetting: rows of text and measured values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from simloop.results.statistics.intervals import Interval
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions

NONE = "–"
"""Stands for a missing value."""


@dataclass(frozen=True)
class CellTexts:
    """The texts of a cell, before they are escaped."""

    number: str
    after: str = ""
    """What stands beside the number, such as `± 2.1` or `(14/20)`."""
    letters: str = ""
    details: str = ""
    """What may stand below the number in smaller type, such as `[48.1, 85.5] 14/20`."""

    @property
    def main(self) -> str:
        """The number and what stands beside it."""
        plus_minus, brackets = (self.after, "") if self.after.startswith("±") else ("", self.after)
        return " ".join(filter(None, (self.number, plus_minus, self.letters, brackets)))


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
    underlined: bool = False
    decimals: int = 1
    """Digits after the decimal point, unless the options set them."""
    signed: bool = False
    """Show a plus before positive numbers."""
    percent: bool = False
    """Whether the value is in percent, which the options may turn into a fraction."""
    rank: str = ""
    """Interval of the rank among the policies."""
    difference: Cell | None = None
    """Difference to the baseline."""

    def texts(self, options: TableOptions) -> CellTexts:
        """What the options show of the cell."""
        parts = options.parts
        counts = self.counts if "counts" in parts else ""
        letters = self.letters if "letters" in parts else ""
        difference = self.difference if "difference" in parts else None
        rank = self.rank if "rank" in parts else ""
        if "rate" not in parts:
            if difference is not None:
                kept = dataclasses.replace(difference, counts=counts, letters=letters, bold=self.bold)
                return kept.texts(
                    dataclasses.replace(options, cells=("rate", "interval", "counts", "letters"))
                )
            if rank or (counts and not self.signed):
                number, *more = filter(None, (rank, counts))
                return CellTexts(number, "", letters, " ".join(more))
        if self.value is None:
            return CellTexts(NONE, "", letters, counts)
        number, after, brackets = self._number(self.value, options), "", ""
        if self.interval is not None and "half-width" in parts:
            arm = max(self.value - self.interval.low, self.interval.high - self.value)
            after = "± " + self._number(arm, options).lstrip("+")
        if self.interval is not None and "interval" in parts:
            ends = (self._number(end, options) for end in (self.interval.low, self.interval.high))
            brackets = f"[{', '.join(ends)}]"
        more = [brackets, counts, rank and f"rank {rank}"]
        if difference is not None:
            texts = difference.texts(dataclasses.replace(options, cells=("rate", "interval")))
            more.append(" ".join(filter(None, ("Δ", texts.main, texts.details))))
        details = " ".join(filter(None, more))
        if details == counts and not after:
            return CellTexts(number, counts and f"({counts})", letters)
        return CellTexts(number, after, letters, details)

    def _number(self, value: float, options: TableOptions) -> str:
        decimals = self.decimals if options.decimals is None else options.decimals
        if self.percent and options.unit == "fraction":
            return number_text(value / 100, max(decimals, self.decimals + 2), signed=self.signed)
        return number_text(value, decimals, signed=self.signed)


Row = tuple[Cell | str, ...]


@dataclass(frozen=True)
class Grid:
    """A table ready for typesetting. Its texts are plain; each format escapes them.

    Raises:
      ValueError: If a row has more or fewer cells than there are columns.
    """

    title: str
    columns: tuple[str, ...]
    groups: tuple[tuple[Row, ...], ...]
    """Groups of rows, separated by rules."""
    notes: tuple[str, ...] = ()
    labels: int = 1
    """Number of leading columns that hold names; the others hold values."""
    options: TableOptions = DEFAULT_OPTIONS
    caption: str = ""
    """A sentence on what the table shows, for documents; default: the title."""

    def __post_init__(self) -> None:
        """Check the rows."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"Wanted a cell for each column of {self.columns}; got {row}.")

    @property
    def rows(self) -> list[Row]:
        """The rows of all groups."""
        return [row for group in self.groups for row in group]

    def transposed(self, corner: str) -> Grid:
        """The table with rows and columns exchanged, in one group.

        Args:
          corner: Heading of the names in the new first column.
        """
        rows = self.rows
        made = tuple((self.columns[i], *(row[i] for row in rows)) for i in range(1, len(self.columns)))
        return dataclasses.replace(self, columns=(corner, *(str(row[0]) for row in rows)), groups=(made,))


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
        percent=True,
    )


def legend(options: TableOptions, interval: str, counts: str = "") -> str:
    """Explain in a sentence what stands beside a value; empty if nothing does."""
    parts = options.parts
    said = [f"after ± the longer arm of the {interval}"] if "half-width" in parts else []
    said += [f"in brackets the {interval}"] if "interval" in parts else []
    if counts and "counts" in parts:
        said.append(f"then {counts}" if said else f"in parentheses {counts}")
    text = "; ".join(said)
    return text[:1].upper() + text[1:] + "." if text else ""


def shows_intervals(options: TableOptions) -> bool:
    """Whether values stand with intervals."""
    return bool({"interval", "half-width"} & set(options.parts))


def number_text(value: float, decimals: int = 1, *, signed: bool = False) -> str:
    """A number as text; with a sign unless it rounds to zero, if `signed`. The minus is as wide as the plus."""
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")
