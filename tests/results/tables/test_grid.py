"""Cells and grids: what a style shows of a measured value."""

import pytest

from simloop.results.errors import ResultsError
from simloop.results.statistics.intervals import Interval
from simloop.results.tables.grid import Cell, Grid, TableStyle, number_text, percent_cell
from simloop.results.tables.typesetting import to_html, to_markdown, to_tex, to_text

CELL = percent_cell(0.7, Interval(0.481, 0.855), "14/20", letters="ab")


@pytest.mark.parametrize(
    ("style", "texts"),
    [
        (TableStyle(), ("70.0 ab", "[48.1, 85.5] 14/20")),
        (TableStyle(interval="plus-minus"), ("70.0 ± 21.9 ab (14/20)", "")),
        (TableStyle(interval="none", letters=False), ("70.0 (14/20)", "")),
        (TableStyle(counts=False, decimals=0), ("70 ab", "[48, 86]")),
        (TableStyle(interval="none", counts=False, letters=False), ("70.0", "")),
    ],
)
def test_style_selects_the_parts_of_a_cell(style, texts):
    assert CELL.texts(style) == texts


def test_an_undefined_value_shows_a_dash_and_its_counts():
    assert Cell(None, counts="0/0 +1 err").texts(TableStyle()) == ("–", "0/0 +1 err")


def test_signed_cells_and_their_intervals_have_signs():
    assert percent_cell(-0.1, Interval(-0.2, 0.0), signed=True).texts(TableStyle()) == (
        "−10.0",
        "[−20.0, 0.0]",
    )
    assert number_text(-0.04, signed=True) == "0.0"


def test_legend_explains_what_the_style_shows():
    assert TableStyle().legend("interval", "counts") == "In brackets the interval; then counts."
    assert TableStyle(interval="none").legend("interval", "counts") == "In parentheses counts."
    assert TableStyle(interval="none", counts=False).legend("interval", "counts") == ""


def test_style_selects_columns_in_every_format():
    grid = Grid("t", ("task", "a", "b"), ((("reach", "1", "2"),),), style=TableStyle(columns=("b",)))
    assert to_text(grid).splitlines()[2].split() == ["task", "b"]
    assert "| reach | 2 |" in to_markdown(grid)
    assert r"reach & 2 \\" in to_tex(grid)
    assert "<td>2</td>" in to_html(grid)
    assert "<td>1</td>" not in to_html(grid)


def test_rejects_a_style_without_any_column_of_the_table():
    with pytest.raises(ResultsError, match="wanted some of the columns a, b; got c"):
        Grid("t", ("task", "a", "b"), ((("reach", "1", "2"),),), style=TableStyle(columns=("c",)))


def test_details_stand_below_the_value_in_tex_and_html():
    grid = Grid("t", ("task", "pi0 (untrained)"), ((("reach", CELL),),))
    assert r"{\scriptsize {[}48.1, 85.5{]} 14/20}" in to_tex(grid)
    assert r"{\scriptsize (untrained)}" in to_tex(grid)
    assert "70.0 ab<br><small>[48.1, 85.5] 14/20</small>" in to_html(grid)
    assert "| reach | 70.0 ab [48.1, 85.5] 14/20 |" in to_markdown(grid)


def test_rejects_ragged_rows():
    with pytest.raises(ValueError, match="a cell for each column"):
        Grid("t", ("a", "b"), ((("1",),),))
