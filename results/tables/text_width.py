"""Widths of texts in the fonts of papers, to choose a layout that fits before LaTeX runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

FontName = Literal["Computer Modern", "Times"]

_FILES: dict[FontName, str] = {"Computer Modern": "cmr10.ttf", "Times": "STIXGeneral.ttf"}
"""Fonts that come with matplotlib and have the widths of those of LaTeX."""
_OPTICAL = {9.0: 1.03, 8.0: 1.065, 7.0: 1.14}
"""Small sizes of Computer Modern are wider than scaled ones."""


@cache
def text_width(text: str, size: float, font: FontName) -> float:
    """Width of a text in points, without kerning, which only makes it narrower."""
    scale = size * (_OPTICAL.get(size, 1.0) if font == "Computer Modern" else 1.0)
    return scale * sum(_advance(character, font) for character in text)


@cache
def _advance(character: str, font: FontName) -> float:
    """Width of a character as a share of the size; unknown ones are as wide as an M."""
    face = _face(font)
    if not face.get_char_index(ord(character)):
        return 0.92
    return float(face.load_char(ord(character)).linearHoriAdvance) / 65536 / 10


@cache
def _face(font: FontName):  # type: ignore[no-untyped-def]
    import matplotlib
    from matplotlib.ft2font import FT2Font

    face = FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / _FILES[font]))
    face.set_size(10, 72)
    return face
