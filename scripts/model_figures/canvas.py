"""A small drawing surface for block diagrams: boxes, labelled arrows and text, written as plain SVG.

Lengths are in user units, y points down. Text stays text, in the metrics of Helvetica and Arial; arrow
heads are polygons and no style sheet is used, so that every program which reads SVG shows the same.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

SANS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
MONO = "Menlo, Consolas, 'Liberation Mono', 'DejaVu Sans Mono', monospace"
INK = "#1f2a37"
GREY = "#5b6675"

LINE_HEIGHT = 1.22  # Of the font size.
CORNER = 6.0  # Radius of the bends of arrows.
HEAD_LENGTH, HEAD_WIDTH = 6.5, 5.6

Anchor = Literal["start", "middle", "end"]


class Point(NamedTuple):
    """A place on the drawing."""

    x: float
    y: float


@dataclass(frozen=True)
class Box:
    """A rectangle that arrows start from and end at."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """x of the right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """y of the lower edge."""
        return self.y + self.height

    @property
    def middle(self) -> Point:
        """The centre."""
        return Point(self.x + self.width / 2, self.y + self.height / 2)


@dataclass(frozen=True)
class Text:
    """A line of text; `x, y` is on its baseline, at the end that `anchor` names."""

    x: float
    y: float
    string: str
    size: float
    anchor: Anchor = "start"
    bold: bool = False
    mono: bool = False
    colour: str = INK
    upright: bool = False
    """Read from bottom to top."""


@dataclass(frozen=True)
class Stroke:
    """How a line is drawn."""

    colour: str
    width: float
    dashes: str | None = None


class Canvas:
    """What is drawn first lies below."""

    def __init__(self, width: float, height: float, *, title: str, description: str):
        self.width, self.height = width, height
        self.boxes: list[Box] = []
        """Boxes that must not be covered by text of others."""
        self.texts: list[Text] = []
        self.lines: list[tuple[Point, ...]] = []
        """The corners of every arrow."""
        self._svg = ET.Element(
            "svg",
            xmlns="http://www.w3.org/2000/svg",
            width=_number(width * 1.25),
            height=_number(height * 1.25),
            viewBox=f"0 0 {_number(width)} {_number(height)}",
            role="img",
        )
        ET.SubElement(self._svg, "title").text = title
        ET.SubElement(self._svg, "desc").text = description
        self.rectangle(0, 0, width, height, fill="#ffffff")

    def rectangle(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str,
        stroke: Stroke | None = None,
        radius: float = 0,
    ) -> None:
        """Draw a rectangle that text may lie on."""
        attributes = {
            "x": _number(x),
            "y": _number(y),
            "width": _number(width),
            "height": _number(height),
            "fill": fill,
        }
        if radius:
            attributes["rx"] = _number(radius)
        ET.SubElement(self._svg, "rect", attributes | _stroked(stroke))

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str,
        stroke: Stroke,
        radius: float = 3,
        lines: Sequence[Text] = (),
    ) -> Box:
        """Draw a box with lines of text in its middle; of the lines only the style counts."""
        self.rectangle(x, y, width, height, fill=fill, stroke=stroke, radius=radius)
        box = Box(x, y, width, height)
        self.boxes.append(box)
        leading = [line.size * LINE_HEIGHT for line in lines]
        y_top = box.middle.y - sum(leading) / 2
        for line, height_of_line in zip(lines, leading, strict=True):
            # Capitals are 0.72 of the size high: this puts their middle on that of the line.
            baseline = y_top + height_of_line / 2 + 0.36 * line.size
            self.text(_at(line, box.middle.x, baseline, "middle"))
            y_top += height_of_line
        return box

    def text(self, text: Text) -> None:
        """Write a line."""
        attributes = {
            "x": _number(text.x),
            "y": _number(text.y),
            "font-family": MONO if text.mono else SANS,
            "font-size": _number(text.size),
            "fill": text.colour,
        }
        if text.anchor != "start":
            attributes["text-anchor"] = text.anchor
        if text.bold:
            attributes["font-weight"] = "bold"
        if text.upright:
            attributes["transform"] = f"rotate(-90 {_number(text.x)} {_number(text.y)})"
        ET.SubElement(self._svg, "text", attributes).text = text.string
        self.texts.append(text)

    def arrow(self, points: Sequence[tuple[float, float]], stroke: Stroke, *, head: bool = True) -> None:
        """Draw a line with rounded bends through the points, and a head at the last one."""
        corners = [Point(*point) for point in points]
        self.lines.append(tuple(corners))
        end = corners[-1]
        if head:
            corners[-1] = _towards(end, corners[-2], HEAD_LENGTH * 0.8)
        path = ET.SubElement(self._svg, "path", {"d": _rounded(corners), "fill": "none"} | _stroked(stroke))
        path.set("stroke-linejoin", "round")
        if head:
            self._head(end, corners[-2], stroke)

    def dot(self, x: float, y: float, colour: str) -> None:
        """Draw the knot where a line splits."""
        ET.SubElement(self._svg, "circle", cx=_number(x), cy=_number(y), r="2.2", fill=colour)

    def diamond(self, x: float, y: float, colour: str, *, radius: float = 4) -> None:
        """Draw a filled mark around a point."""
        corners = ((x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y))
        ET.SubElement(self._svg, "polygon", points=_points(corners), fill=colour)

    def svg(self) -> str:
        """The drawing as a file."""
        ET.indent(self._svg, " ")
        return ET.tostring(self._svg, encoding="unicode") + "\n"

    def _head(self, tip: Point, behind: Point, stroke: Stroke) -> None:
        back = _towards(tip, behind, HEAD_LENGTH)
        across = Point(-(tip.y - back.y) / HEAD_LENGTH, (tip.x - back.x) / HEAD_LENGTH)
        half = (HEAD_WIDTH + stroke.width - 1) / 2
        corners = (
            tip,
            (back.x + across.x * half, back.y + across.y * half),
            (back.x - across.x * half, back.y - across.y * half),
        )
        ET.SubElement(self._svg, "polygon", points=_points(corners), fill=stroke.colour)


def _at(text: Text, x: float, y: float, anchor: Anchor) -> Text:
    return Text(x, y, text.string, text.size, anchor, text.bold, text.mono, text.colour, text.upright)


def _towards(start: Point, end: Point, length: float) -> Point:
    distance = math.dist(start, end)
    return Point(
        start.x + (end.x - start.x) * length / distance, start.y + (end.y - start.y) * length / distance
    )


def _rounded(corners: Sequence[Point]) -> str:
    """Path data of a line through the corners, each bend replaced by an arc-like curve."""
    parts = [f"M{_pair(corners[0])}"]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        radius = min(CORNER, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        start, end = _towards(corner, before, radius), _towards(corner, after, radius)
        parts.append(f"L{_pair(start)}Q{_pair(corner)} {_pair(end)}")
    parts.append(f"L{_pair(corners[-1])}")
    return "".join(parts)


def _stroked(stroke: Stroke | None) -> dict[str, str]:
    if stroke is None:
        return {}
    attributes = {"stroke": stroke.colour, "stroke-width": _number(stroke.width)}
    return attributes if stroke.dashes is None else attributes | {"stroke-dasharray": stroke.dashes}


def _points(corners: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in corners)


def _pair(point: tuple[float, float]) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    """At most two decimals, without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
