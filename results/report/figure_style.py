"""Style of the figures: legible in a column of a two-column paper, distinguishable without colour, reproducible."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

COLUMN_IN = 3.4  # Width of a column of IEEE and CVPR templates.
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


@contextmanager
def styled() -> Iterator[None]:
    """Create and save figures in this style, independent of the settings of the user."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def one_panel(height_in: float, width_in: float = COLUMN_IN) -> tuple[Figure, Axes]:
    """A figure with one panel, which needs no display."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def legend_above(figure: Figure, axes: Axes) -> None:
    """Draw a legend above the panel, in two columns if the names are short."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = 2 if max(map(len, labels)) <= 24 else 1
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


def figure_bytes(figure: Figure, format: str) -> bytes:
    """A figure as a file in a format of `FORMATS`; the same figure gives the same bytes."""
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": None}
    stream = io.BytesIO()
    with styled():
        figure.savefig(stream, format=format, dpi=PNG_DPI, metadata=undated[format])
    return stream.getvalue()


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure in every format of `FORMATS`."""
    files = [folder / f"{name}.{format}" for format in FORMATS]
    for file, format in zip(files, FORMATS, strict=True):
        file.write_bytes(figure_bytes(figure, format))
    return files
