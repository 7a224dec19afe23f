"""The margin below the images of a video: what is shown, how far the episode has come, and where queries were made.

Axis letters: h height, w width of a frame.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from simloop.harness.planning.plan import EpisodeSpec
from simloop.untrusted import printable

HEIGHT = 36
"""Pixels of the margin: a bar of progress, and two lines of text."""
BAR = 4
FONT_SIZE = 11
PAPER, INK, DIM = (24, 27, 31), (236, 238, 240), (150, 158, 168)
ELAPSED, QUERIED = (96, 104, 114), (236, 238, 240)
COLOURS = {"success": (86, 180, 233), "failure": (230, 120, 40)}
"""Of the outcome; colour-blind readers tell them apart, and a word says it as well."""


class VideoMargin:
    """Write what a video shows below its frames, never over their pixels.

    Args:
      max_steps: Step limit of the episode, which is the right end of the bar.
    """

    def __init__(self, spec: EpisodeSpec, max_steps: int):
        self._title = printable(f"{spec.policy} · {spec.task} · episode {spec.episode}")
        self._max_steps = max(1, max_steps)
        self._queries: list[int] = []

    def on_query(self, step: int) -> None:
        """Mark a query, which was made before this step."""
        self._queries.append(step)

    def below(
        self, frame: UInt8[np.ndarray, "h w 3"], step: int, outcome: str = ""
    ) -> UInt8[np.ndarray, "h+36 w 3"]:
        """The frame with the margin below it.

        Args:
          step: Number of executed control steps.
          outcome: `success` or `failure` once it is known.
        """
        width = frame.shape[1]
        margin = Image.new("RGB", (width, HEIGHT), PAPER)
        draw = ImageDraw.Draw(margin)
        draw.rectangle((0, 0, self._place(step, width), BAR - 1), fill=COLOURS.get(outcome, ELAPSED))
        for query in self._queries:
            draw.line((self._place(query, width), 0, self._place(query, width), BAR - 1), fill=QUERIED)
        draw.text((4, BAR + 1), self._title, INK, _font())
        told = f"step {step} of {self._max_steps} · query {len(self._queries) - 1 if self._queries else '–'}"
        draw.text((4, BAR + 15), told, DIM, _font())
        if outcome:
            room = width - 4 - draw.textlength(outcome, _font())
            draw.text((room, BAR + 15), outcome, COLOURS[outcome], _font())
        return np.concatenate([frame, np.asarray(margin)])

    def _place(self, step: int, width: int) -> int:
        return round(min(1.0, step / self._max_steps) * (width - 1))


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)
