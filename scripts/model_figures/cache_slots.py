"""The strip that shows what lies in which slots of the cache."""

from __future__ import annotations

from collections.abc import Mapping

from .canvas import Text
from .drawing import (
    ACTION_EXPERT,
    BORDER,
    GREY,
    PALIGEMMA,
    SHARED_BORDER,
    TINY_SIZE,
    TITLE_SIZE,
    Drawing,
    DrawingError,
)

_HEIGHT = 28.0
_SPARE_CHARACTERS = 3  # Of air in a segment, whose width is in proportion to its name.


def cache_slots(
    drawing: Drawing,
    x: float,
    y: float,
    width: float,
    *,
    slots: int,
    suffix: Mapping[str, int],
    once: str,
    again: str,
) -> None:
    """Draw what lies in the cache, with its numbers of tokens.

    Args:
      drawing: Where.
      x, y, width: Where in it; y is that of the heading.
      slots: Of the cache, as the model made it.
      suffix: Tokens behind the prefix, by what they are.
      once, again: How the slots of the prefix and of the suffix are filled.

    Raises:
      DrawingError: If the segments do not add up to the cache.
    """
    config = drawing.model.config
    prompt_tokens = drawing.model.inference["embed"].inputs[0][1]
    prefix = {name.removesuffix("_rgb"): config.tokens_per_image for name in config.cameras}
    prefix["prompt"] = prompt_tokens
    if sum(prefix.values()) + sum(suffix.values()) != slots:
        raise DrawingError(f"The cache of {config.family} has {slots} slots, but {prefix} and {suffix}.")

    drawing.write(x, y, f"{slots} slots of the cache", size=TITLE_SIZE, anchor="start", bold=True)
    own = (ACTION_EXPERT, BORDER) if config.action_expert else (PALIGEMMA, SHARED_BORDER)
    segments = [(*item, PALIGEMMA, BORDER) for item in prefix.items()]
    segments += [(*item, *own) for item in suffix.items()]
    unit = width / sum(len(name) + _SPARE_CHARACTERS for name, *_ in segments)
    left = x
    for name, tokens, fill, stroke in segments:
        lines = [Text(0, 0, name, TINY_SIZE), Text(0, 0, str(tokens), TINY_SIZE)]
        segment_width = unit * (len(name) + _SPARE_CHARACTERS)
        box = drawing.canvas.box(
            left, y + 8, segment_width, _HEIGHT, fill=fill, stroke=stroke, radius=0, lines=lines
        )
        left = box.right
    below = y + 8 + _HEIGHT + 13
    drawing.write(x, below, f"{sum(prefix.values())} {once}", anchor="start", colour=GREY, size=TINY_SIZE)
    drawing.write(
        x + width, below, f"{sum(suffix.values())} {again}", anchor="end", colour=GREY, size=TINY_SIZE
    )
