"""Values as the pages load them: scripts, because pages that are opened from disk may not fetch files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from simloop.results.records.records import EpisodeKey
from simloop.results.tables.grid import Cell, Grid
from simloop.untrusted import printable

DIGITS = 5
"""Significant digits of a number that is drawn."""


def script(name: str, value: Any) -> bytes:
    """A script that hands a value of JSON types to the page under a name."""
    arguments = ", ".join(json.dumps(part, allow_nan=False, separators=(",", ":")) for part in (name, value))
    return f"simloop.put({arguments});\n".encode()


def episode_id(key: EpisodeKey) -> str:
    """Name of the files of an episode on a page: it holds for as long as the run exists, and is safe in a URL."""
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]


def number(value: float | None, digits: int = DIGITS) -> float | None:
    """A number with few digits, which JSON can hold; None if it is nan or infinite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def numbers(values: Iterable[float] | np.ndarray) -> list[Any]:
    """Numbers with few digits, nested as the array is."""
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return [numbers(row) for row in values]
    return [number(float(value)) for value in values]


def text(value: str) -> str:
    """A text of a run, which the page shows as it is."""
    return printable(value)


def grid_data(grid: Grid) -> dict[str, Any]:
    """A table: cells are pairs of the main text and the details below it, and whether it is bold."""

    def entry(cell: Cell | str) -> list[Any]:
        if isinstance(cell, str):
            return [text(cell), "", False]
        texts = cell.texts(grid.options)
        return [text(texts.main), text(texts.details), cell.bold]

    return {
        "title": text(grid.title),
        "columns": [text(name) for name in grid.columns],
        "labels": grid.labels,
        "groups": [[[entry(cell) for cell in row] for row in group] for group in grid.groups],
        "notes": [text(note) for note in grid.notes],
    }
