"""Cells and grids: what a style shows of a measured value."""

import dataclasses

import pytest

from simloop.results.statistics.intervals import Interval
from simloop.results.tables.grid import Cell, Grid, legend, number_text, percent_cell
from simloop.results.tables.options import TableOptions
from simloop.results.tables.typesetting import to_html, to_markdown

CELL = percent_cell(0.7, Interval(0.481, 0.855), "14/20", letters="ab")


@pytest.mark.parametrize(
    ("options", "main", "details"),
    [
        ({}, "70.0 ab", "[48.1, 85.5] 14/20"),
        ({"cells": ("rate", "half-width", "counts", "letters")}, "70.0 ± 21.9 ab", "14/20"),
        ({"cells": ("rate", "counts")}, "70.0 (14/20)", ""),
        ({"cells": ("rate", "interval", "letters"), "decimals": 0}, "70 ab", "[48, 86]"),
        ({"cells": ("rate",)}, "70.0", ""),
        ({"cells": ("counts",)}, "14/20", ""),
        ({"cells": ("rate", "interval"), "unit": "fraction"}, "0.700", "[0.481, 0.855]"),
        ({"cells": ("rate", "rank")}, "70.0", "rank 1–3"),
        ({"cells": ("rank",)}, "1–3", ""),
        ({"cells": ("rate", "difference")}, "70.0", "Δ −25.0 [−40.0, −10.0]"),
        ({"cells": ("difference",)}, "−25.0", "[−40.0, −10.0]"),
    ],
)
def test_options_select_the_parts_of_a_cell(options, main, details):
    difference = percent_cell(-0.25, Interval(-0.4, -0.1), signed=True)
    cell = dataclasses.replace(CELL, rank="1–3", difference=difference)
    texts = cell.texts(TableOptions(**options))
    assert (texts.main, texts.details) == (main, details)


def test_an_undefined_value_shows_a_dash_and_its_counts():
    texts = Cell(None, counts="0/0 +1 err").texts(TableOptions())
    assert (texts.main, texts.details) == ("–", "0/0 +1 err")


def test_signed_cells_and_their_intervals_have_signs():
    texts = percent_cell(-0.1, Interval(-0.2, 0.0), signed=True).texts(TableOptions())
    assert (texts.main, texts.details) == ("−10.0", "[−20.0, 0.0]")
    assert number_text(-0.04, signed=True) == "0.0"


def test_legend_explains_what_the_options_show():
    assert legend(TableOptions(), "interval", "counts") == "In brackets the interval; then counts."
    assert legend(TableOptions(cells=("rate", "counts")), "interval", "counts") == "In parentheses counts."
    assert legend(TableOptions(cells=("rate",)), "interval", "counts") == ""


def test_a_transposed_table_keeps_its_cells():
    grid = Grid("t", ("task", "a", "b"), ((("reach", "1", "2"),), (("mean", "3", "4"),)))
    turned = grid.transposed("policy")
    assert turned.columns == ("policy", "reach", "mean")
    assert turned.rows == [("a", "1", "3"), ("b", "2", "4")]


def test_details_stand_below_the_value_in_html():
    grid = Grid("t", ("task", "pi0 (untrained)"), ((("reach", CELL),),))
    assert "70.0 ab<br><small>[48.1, 85.5] 14/20</small>" in to_html(grid)
    assert "| reach | 70.0 ab [48.1, 85.5] 14/20 |" in to_markdown(grid)


def test_rejects_ragged_rows():
    with pytest.raises(ValueError, match="a cell for each column"):
        Grid("t", ("a", "b"), ((("1",),),))
