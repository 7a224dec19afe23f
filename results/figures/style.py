"""Style of the figures: legible in a column of a two-column paper, distinguishable without colour, reproducible."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from simloop.results.tables.document_class import DocumentClass

COLUMN_IN = 3.4  # Width of a column of IEEE and CVPR templates.
LEGEND_ROW_IN = 0.14  # Height of one line of a legend, added to that of the panel.
FORMATS = ("svg", "pdf", "png")
PNG_DPI = 300

# Okabe and Ito (2008), for colour-blind readers, without yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "mathtext.fontset": "cm",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "text.parse_math": False,  # Names may hold dollar signs.
    "svg.hashsalt": "simloop",  # Makes identifiers within the file reproducible.
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # Embeds TrueType fonts, which publishers require.
}


def colour(index: int) -> str:
    """Colour of the policy at an index in the order of the tables."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Marker of the policy at an index in the order of the tables."""
    return MARKERS[index % len(MARKERS)]


def line(index: int) -> str:
    """Line style of the policy at an index in the order of the tables."""
    return LINES[index % len(LINES)]


_FAMILIES = {
    "Computer Modern": ["cmr10", "STIXGeneral", "DejaVu Serif"],
    "Times": ["STIXGeneral", "DejaVu Serif"],
}
"""Fonts of the classes, as matplotlib brings them; later ones have the signs that earlier ones lack."""


@contextmanager
def styled(document: DocumentClass | None = None) -> Iterator[None]:
    """Create and save figures in this style, independent of the settings of the user.

    Args:
      document: Document class whose font and sizes to use; text in SVG then stays text.
    """
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "cmr10 font should", UserWarning
        )  # Its minus comes from the second font.
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        if document is not None:
            mpl.rcParams.update(dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7))
            mpl.rcParams["font.family"] = _FAMILIES[document.font]
            mpl.rcParams["axes.unicode_minus"] = False
            mpl.rcParams["svg.fonttype"] = "none"
        yield


def one_panel(height_in: float, width_in: float = COLUMN_IN) -> tuple[Figure, Axes]:
    """A figure with one panel, which needs no display."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def legend_above(figure: Figure, axes: Axes) -> None:
    """Draw a legend above the panel, in rows of as many names as fit."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        widest = 0.07 * max(map(len, labels)) + 0.45
        rows = math.ceil(len(labels) / max(1, int(figure.get_figwidth() / widest)))
        columns = math.ceil(len(labels) / rows)
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=1.6)


def few_numbers(axes: Axes) -> None:
    """Limit the x axis to a few numbers, so that long ones do not overlap."""
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def log_ms(axes: Axes) -> None:
    """Make the x axis logarithmic, in milliseconds written as plain numbers."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    wide = high > 300 * low  # Then numbers between the powers of ten would overlap.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0), numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def figure_bytes(figure: Figure, format: str, document: DocumentClass | None = None) -> bytes:
    """A figure as a file in a format of `FORMATS`; the same figure gives the same bytes."""
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": None}
    stream = io.BytesIO()
    logging.getLogger("fontTools").setLevel(
        logging.ERROR
    )  # It remarks on the dates within matplotlib's fonts.
    with styled(document):
        figure.savefig(stream, format=format, dpi=PNG_DPI, metadata=undated[format])
    return stream.getvalue()


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure in every format of `FORMATS`."""
    files = [folder / f"{name}.{format}" for format in FORMATS]
    for file, format in zip(files, FORMATS, strict=True):
        file.write_bytes(figure_bytes(figure, format))
    return files


@dataclass(frozen=True)
class Drawing:
    """A figure that has not been drawn yet."""

    name: str
    caption: str
    draw: Callable[[Axes], pd.DataFrame]
    """Draws on the axes and returns the data that it drew."""
    height_in: float
    """At the width of a column."""

    def figure(
        self, width_in: float = COLUMN_IN, document: DocumentClass | None = None
    ) -> tuple[Figure, pd.DataFrame]:
        """Draw it; returns the figure and its data."""
        with styled(document):
            figure, axes = one_panel(self.height_in, width_in)
            data = self.draw(axes)
            legend_above(figure, axes)
        return figure, data
