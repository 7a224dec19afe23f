"""Finds labels of a drawing that lie on each other, on a line, across a border or off the page.

Widths are those of DejaVu Sans, which is wider than the fonts that a drawing asks for: what has room
here has room wherever the drawing is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import NamedTuple

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from .canvas import Box, Canvas, Point, Text

ASCENT, DESCENT = 0.74, 0.2  # Of the font size, around a baseline, with little air.


class Extent(NamedTuple):
    """The room that something takes."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Extent) -> bool:
        """Whether the two have a point in common."""
        apart = self.right < other.left or other.right < self.left
        return not (apart or self.bottom < other.top or other.bottom < self.top)

    def lies_in(self, other: Extent) -> bool:
        """Whether nothing of this is outside of the other."""
        across = other.left <= self.left and self.right <= other.right
        return across and other.top <= self.top and self.bottom <= other.bottom


def crowded(canvas: Canvas) -> list[str]:
    """A sentence for everything that is not legible."""
    return [*_crowded(canvas)]


def _crowded(canvas: Canvas) -> Iterator[str]:
    page = Extent(0, 0, canvas.width, canvas.height)
    texts = [(text.string, _extent_of(text)) for text in canvas.texts]
    boxes = [_extent_of_box(box) for box in canvas.boxes]
    for string, extent in texts:
        if not extent.lies_in(page):
            yield f"{string!r} leaves the page: {_rounded(extent)}."
        for box in boxes:
            if extent.meets(box) and not extent.lies_in(box):
                yield f"{string!r} crosses the border of a box: {_rounded(extent)} and {_rounded(box)}."
        for line in canvas.lines:
            for start, end in pairwise(line):
                if extent.meets(_extent_of_segment(start, end)):
                    yield f"{string!r} lies on an arrow: {_rounded(extent)} and {start} to {end}."
    for (first, here), (second, there) in combinations(texts, 2):
        if here.meets(there):
            yield f"{first!r} and {second!r} overlap: {_rounded(here)} and {_rounded(there)}."


def _extent_of(text: Text) -> Extent:
    font = FontProperties(
        family="DejaVu Sans Mono" if text.mono else "DejaVu Sans",
        weight="bold" if text.bold else "normal",
        size=text.size,
    )
    width, _, _ = TextToPath().get_text_width_height_descent(text.string, font, ismath=False)
    before = {"start": 0.0, "middle": width / 2, "end": width}[text.anchor]
    if text.upright:
        return Extent(
            text.x - ASCENT * text.size,
            text.y + before - width,
            text.x + DESCENT * text.size,
            text.y + before,
        )
    return Extent(
        text.x - before,
        text.y - ASCENT * text.size,
        text.x - before + width,
        text.y + DESCENT * text.size,
    )


def _extent_of_box(box: Box) -> Extent:
    return Extent(box.x, box.y, box.right, box.bottom)


def _extent_of_segment(start: Point, end: Point) -> Extent:
    return Extent(min(start.x, end.x), min(start.y, end.y), max(start.x, end.x), max(start.y, end.y))


def _rounded(extent: Extent) -> str:
    return f"({', '.join(f'{side:.0f}' for side in extent)})"
