"""The vocabulary of the drawings: lanes, modules with their parameters, steps, and labelled flows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from .canvas import GREY, INK, Anchor, Box, Canvas, Stroke, Text
from .crowding import crowded
from .observed import ObservedModel, Shape, shape_text

Point = tuple[float, float]
Side = Literal["right", "left", "above", "below", "along"]
"""Where a label is; `along` is to the left of a vertical arrow, read upwards."""

TITLE_SIZE, DETAIL_SIZE, LABEL_SIZE = 10.5, 9.5, 9.75
TINY_SIZE = 9.0
LABEL_LEADING = 11.5
LABEL_GAP = 5.0  # Between an arrow and its label.

ALWAYS = Stroke(INK, 1.1)
TRAINING = Stroke("#b84a00", 1.3, "4.5 2.5")
INFERENCE = Stroke("#005fa3", 2.1)
"""Told apart by dashes and width as well, for print without colours."""

PALIGEMMA = "#dde7f4"
ACTION_EXPERT = "#cfe8d3"
NO_WEIGHTS = "#ffffff"
LANE = "#f5f6f8"
FRAME = "#ebeef3"
BORDER = Stroke("#7b8594", 0.8)
SHARED_BORDER = Stroke("#7b8594", 0.9, "2 2")


class DrawingError(Exception):
    """A drawing that would say something wrong or illegible."""


class Label(NamedTuple):
    """What flows along an arrow."""

    what: str
    """In one line or more."""
    shape: Shape | None = None
    """None for text and other things without one."""
    parts: int = 1
    """Of how many equal parts the first axis is made; the shape of one of them is written."""

    def lines(self) -> list[str]:
        """What is written beside the arrow."""
        lines = self.what.splitlines()
        if self.shape is None:
            return lines
        if self.parts == 1:
            return [*lines, shape_text(self.shape)]
        part = Shape((self.shape[0] // self.parts, *self.shape[1:]))
        return [*lines, f"{self.parts} × {shape_text(part)}"]


class Drawing:
    """A picture of one model, whose numbers all come from the observed model."""

    def __init__(
        self,
        model: ObservedModel,
        *,
        width: float,
        height: float,
        title: str,
        description: str,
        other: ObservedModel | None = None,
    ):
        """Modules that `other` has not, or has in another size, get a mark."""
        self.model = model
        self.canvas = Canvas(width, height, title=title, description=description)
        self._other = other
        self._counted: list[str] = []

    def heading(self, name: str, *facts: str) -> None:
        """The name of the model over everything, and what is worth knowing first."""
        total = f"{count_text(self.model.total())} parameters"
        self.write(12, 29, name, size=17, anchor="start", bold=True)
        self.write(self.canvas.width - 12, 29, " · ".join((total, *facts)), anchor="end", colour=GREY)

    def lane(self, x: float, y: float, width: float, height: float, title: str, *about: str) -> None:
        """The background of a path, with its name on top."""
        self.canvas.rectangle(x, y, width, height, fill=LANE, radius=5)
        self.write(x + width / 2, y + 15, title, size=11, bold=True)
        for i, line in enumerate(about):
            self.write(x + width / 2, y + 28 + i * 11.5, line, colour=GREY)

    def module(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        title: Sequence[str] | str,
        *details: str,
        paths: Sequence[str],
        fill: str,
        shared: bool = False,
    ) -> Box:
        """A part of the model with parameters, and their number.

        Args:
          x, y, width, height: Where.
          title: Its name, in one line or more.
          details: More about it, a line each.
          paths: Where its parameters are in the model.
          fill: By whose weights they are.
          shared: Whether another box already stands for these parameters; their number is not repeated.
        """
        size = count_text(self.model.count(*paths))
        if not shared:
            self._counted += paths
        titles = [title] if isinstance(title, str) else title
        lines = [
            *(Text(0, 0, line, TITLE_SIZE, bold=True) for line in titles),
            *(Text(0, 0, line, DETAIL_SIZE) for line in details),
            *([] if shared else [Text(0, 0, size, DETAIL_SIZE, colour=GREY)]),
        ]
        border = SHARED_BORDER if shared else BORDER
        box = self.canvas.box(x, y, width, height, fill=fill, stroke=border, lines=lines)
        if any(self.unlike(functools.partial(ObservedModel.parameters_under, path=path)) for path in paths):
            self.mark(box)
        return box

    def step(
        self, x: float, y: float, width: float, height: float, *lines: str, stroke: Stroke = BORDER
    ) -> Box:
        """Something that is done and has no parameters."""
        colour = INK if stroke == BORDER else stroke.colour
        texts = [Text(0, 0, line, DETAIL_SIZE, colour=colour) for line in lines]
        radius = min(height / 2, 9)
        border = Stroke(stroke.colour, 0.9, stroke.dashes)
        return self.canvas.box(
            x, y, width, height, fill=NO_WEIGHTS, stroke=border, radius=radius, lines=texts
        )

    def unlike(self, trait: Callable[[ObservedModel], object]) -> bool:
        """Whether there is another model, and it has the trait in another way."""
        return self._other is not None and trait(self._other) != trait(self.model)

    def mark(self, box: Box) -> None:
        """Say that the other model does not have this box, or has it differently."""
        self.canvas.diamond(box.right - 1, box.y + 1, INK)

    def flow(
        self,
        points: Sequence[Point],
        label: Label,
        *,
        stroke: Stroke = ALWAYS,
        side: Side = "right",
        at: Point | None = None,
        head: bool = True,
    ) -> None:
        """An arrow and what flows along it, written beside its middle or beside `at`."""
        self.canvas.arrow(points, stroke, head=head)
        if at is None:
            (x0, y0), (x1, y1) = points[0], points[-1]
            at = ((x0 + x1) / 2, (y0 + y1) / 2)
        x, y = at
        lines = label.lines()
        height = LABEL_LEADING * len(lines)
        match side:
            case "along":
                self.write(x - 6, y, " ".join(lines), colour=stroke.colour, upright=True)
            case "right":
                self._write_lines(x + LABEL_GAP, y - height / 2, lines, "start", stroke.colour)
            case "left":
                self._write_lines(x - LABEL_GAP, y - height / 2, lines, "end", stroke.colour)
            case "above":
                self._write_lines(x, y - height - 3, lines, "middle", stroke.colour)
            case "below":
                self._write_lines(x, y + 4, lines, "middle", stroke.colour)

    def write(
        self,
        x: float,
        y: float,
        string: str,
        *,
        size: float = LABEL_SIZE,
        anchor: Anchor = "middle",
        bold: bool = False,
        mono: bool = False,
        colour: str = INK,
        upright: bool = False,
    ) -> None:
        """A line of text."""
        self.canvas.text(Text(x, y, string, size, anchor, bold, mono, colour, upright))

    def legend(self, x: float, y: float, width: float, *, other: str | None = None) -> None:
        """Explain arrows and boxes, in two columns.

        `other` is the name of the model that marked boxes are compared with.
        """
        arrows = (
            (ALWAYS, "training and inference"),
            (TRAINING, "training only"),
            (INFERENCE, "inference only"),
        )
        boxes = [
            (PALIGEMMA, BORDER, "weights of PaliGemma"),
            *(
                [(ACTION_EXPERT, BORDER, "weights of the action expert")]
                if self.model.config.action_expert
                else [(PALIGEMMA, SHARED_BORDER, "the same weights again")]
            ),
            (NO_WEIGHTS, BORDER, "no weights"),
        ]
        row, second = 17.0, x + width * 0.46
        for i, (stroke, meaning) in enumerate(arrows):
            y_row = y + row * i
            self.canvas.arrow([(x, y_row), (x + 30, y_row)], stroke)
            self.write(x + 38, y_row + 3.5, meaning, anchor="start", colour=stroke.colour)
        for i, (fill, border, meaning) in enumerate(boxes):
            y_row = y + row * i
            radius = 5.5 if fill == NO_WEIGHTS else 3
            self.canvas.rectangle(second, y_row - 5.5, 24, 11, fill=fill, stroke=border, radius=radius)
            self.write(second + 32, y_row + 3.5, meaning, anchor="start")
        y_row = y + row * 3
        self.write(x, y_row + 3.5, "b", anchor="start", bold=True)
        self.write(x + 38, y_row + 3.5, "rows of the batch", anchor="start")
        if other is not None:
            self.canvas.diamond(second + 12, y_row, INK)
            self.write(second + 32, y_row + 3.5, f"unlike {other}", anchor="start")

    def finish(self) -> str:
        """The drawing as a file.

        Raises:
          DrawingError: If a parameter of the model is in no box or in two, or if something is illegible.
        """
        shown, total = self.model.count(*self._counted), self.model.total()
        if shown != total:
            raise DrawingError(
                f"The boxes of {self.model.config.family} hold {shown} parameters and the model has {total}. "
                "Every parameter belongs to exactly one box that is not `shared`."
            )
        problems = crowded(self.canvas)
        if problems:
            raise DrawingError("\n".join([f"{self.model.config.family} is not legible:", *problems]))
        return self.canvas.svg()

    def _write_lines(self, x: float, top: float, lines: Sequence[str], anchor: Anchor, colour: str) -> None:
        for i, line in enumerate(lines):
            self.write(x, top + i * LABEL_LEADING + 0.8 * LABEL_SIZE, line, anchor=anchor, colour=colour)


def count_text(count: int) -> str:
    """A number of parameters in three digits or so.

    >>> count_text(2_923_335_408), count_text(412_442_352), count_text(33_792)
    ('2.92 B', '412.4 M', '33.8 k')
    """
    for unit, size, decimals in (("B", 1_000_000_000, 2), ("M", 1_000_000, 1), ("k", 1000, 1)):
        if count >= size:
            return f"{count / size:.{decimals}f} {unit}"
    return str(count)
