"""How figures look: legible in a column of a two-column paper, told apart without colour, the same every time."""

from __future__ import annotations

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

# Okabe and Ito (2008): told apart also without seeing red or green. Yellow is left out: it is faint on white.
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
    "text.parse_math": False,  # Names are names, also with a dollar in them.
    "svg.hashsalt": "simloop",  # Without it, names within the file differ from one time to the next.
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # Text stays text, which publishers ask for.
}


def colour(place: int) -> str:
    """Of the policy at a place in the order of the tables."""
    return COLOURS[place % len(COLOURS)]


def marker(place: int) -> str:
    """Of the policy at a place in the order of the tables."""
    return MARKERS[place % len(MARKERS)]


def line(place: int) -> str:
    """Of the policy at a place in the order of the tables."""
    return LINES[place % len(LINES)]


@contextmanager
def styled() -> Iterator[None]:
    """Within it, figures are made and saved in this style, whatever a user's own settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def one_panel(height_in: float, width_in: float = COLUMN_IN) -> tuple[Figure, Axes]:
    """A figure with one panel, drawn without a display."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def legend_above(figure: Figure, axes: Axes) -> None:
    """A legend that covers no data; in two columns if the names are short."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = 2 if max(map(len, labels)) <= 24 else 1
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=1.6)


def few_numbers(axes: Axes) -> None:
    """Numbers below that keep apart, however many digits they have."""
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def log_ms(axes: Axes) -> None:
    """A logarithmic axis of milliseconds below, in numbers rather than powers."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    wide = high > 300 * low  # Beyond that, numbers between the powers of ten would run into each other.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0), numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure in every format; the same figure gives the same bytes."""
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": None}
    files = []
    with styled():
        for format in FORMATS:
            file = folder / f"{name}.{format}"
            figure.savefig(file, dpi=PNG_DPI, metadata=undated[format])
            files.append(file)
    return files
