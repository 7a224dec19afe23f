"""Document classes of papers: the widths, fonts and sizes that tables and figures are made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simloop.results.tables.options import DocumentName

POINTS_PER_INCH = 72.27


@dataclass(frozen=True)
class DocumentClass:
    """The layout of a class with 10 pt type. Lengths are in points of TeX, 72.27 to the inch."""

    name: DocumentName
    preamble: str
    """Class and geometry of a document with these lengths."""
    column: float
    """Width of a column; that of the text in a class of one column."""
    text: float
    height: float
    font: Literal["Computer Modern", "Times"]
    sizes: tuple[tuple[str, float], ...]
    """Commands for the type of tables, the preferred one first, with their sizes."""
    details: tuple[str, float]
    """Command and size of what stands below a number."""

    @property
    def two_columns(self) -> bool:
        """Whether the text has two columns."""
        return self.column < self.text

    def inches(self, columns: int) -> float:
        """Width of a figure over one or two columns; those of one column of text are 0.6 of it, or all."""
        if self.two_columns:
            return (self.column if columns == 1 else self.text) / POINTS_PER_INCH
        return (0.6 if columns == 1 else 1.0) * self.text / POINTS_PER_INCH


def _one_column(name: DocumentName, small: float) -> DocumentClass:
    """A conference style of one column of 5.5 by 9 inches in Times."""
    inch = POINTS_PER_INCH
    return DocumentClass(
        name,
        "\\documentclass{article}\n"
        "\\usepackage[letterpaper,textwidth=5.5in,textheight=9in,top=1in]{geometry}\n"
        "\\usepackage{mathptmx}",
        5.5 * inch,
        5.5 * inch,
        9 * inch,
        "Times",
        (("\\small", 9.0), ("\\footnotesize", small)),
        ("\\scriptsize", 7.0),
    )


DOCUMENT_CLASSES: dict[DocumentName, DocumentClass] = {
    "article": DocumentClass(
        "article",
        "\\documentclass[twocolumn]{article}",
        229.5,
        469.0,
        550.0,
        "Computer Modern",
        (("\\small", 9.0), ("\\footnotesize", 8.0)),
        ("\\scriptsize", 7.0),
    ),
    "ieeetran": DocumentClass(
        "ieeetran",
        "\\documentclass[conference]{IEEEtran}",
        252.0,
        516.0,
        672.0,
        "Times",
        (("\\footnotesize", 8.0),),
        ("\\scriptsize", 7.0),
    ),
    "corl": _one_column("corl", 9.0),
    "neurips": _one_column("neurips", 9.0),
    "iclr": _one_column("iclr", 8.0),
}
"""Measured from the class, or as their style files set them: 5.5 by 9 inches in Times at CoRL, NeurIPS and ICLR."""
