"""Typesetting: every format holds the same cells, and no text is read as markup."""

import csv
import html
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simloop.results.tables.grid import Grid
from simloop.results.tables.latex import escape_tex
from simloop.results.tables.typesetting import to_csv, to_html, to_markdown, to_text

GRID = Grid(
    title="Success in %",
    columns=("task", "pi0_fast", "a|b & c"),
    groups=((("reach_v3", "92.0 [81.2, 96.9]", "–"), ("[odd] ~x^2", "0 {}", "$5 #1")), (("mean", "1", "2"),)),
    notes=("50 % of\neach",),
)


def test_markdown_is_a_table_of_its_cells():
    lines = to_markdown(GRID).splitlines()
    assert lines[0] == "**Success in %**"
    assert lines[2] == r"| task | pi0_fast | a\|b & c |"
    assert lines[3] == "| --- | ---: | ---: |"
    assert lines[4] == "| reach_v3 | 92.0 [81.2, 96.9] | – |"
    assert lines[-1] == "- 50 % of each"


def test_text_aligns_its_columns():
    lines = to_text(GRID).splitlines()
    assert lines[:7] == [
        "Success in %",
        "",
        "task                 pi0_fast  a|b & c",
        "──────────────────────────────────────",
        "reach_v3    92.0 [81.2, 96.9]        –",
        "[odd] ~x^2               0 {}    $5 #1",
        "──────────────────────────────────────",
    ]
    assert lines[-1] == "50 % of each"


cells = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12)


def from_tex(text):
    """What LaTeX would print for a cell, by undoing commands one at a time."""
    names = {"textbackslash": "\\", "textasciicircum": "^", "textasciitilde": "~"}
    names |= {"textless": "<", "textgreater": ">", "textbar": "|"}
    signs = {"\\Delta": "Δ", "-": "−", "\\times": "×", "\\pm": "±"}
    pattern = r"\\(text\w+)\{\}|\\([{}$&#%_])|\{([\[\]])\}|\$(-|\\times|\\pm|\\Delta)\$"
    return re.sub(pattern, lambda m: names[m[1]] if m[1] else m[2] or m[3] or signs[m[4]], text).replace(
        "--", "–"
    )


@given(cells.filter(lambda cell: "-" not in cell))
def test_tex_prints_every_cell_verbatim(cell):
    assert from_tex(escape_tex(cell)) == cell


@given(cells)
def test_no_cell_breaks_a_markdown_table(cell):
    lines = to_markdown(Grid("t", ("a", "b"), (((cell, "end"),),))).split("\n")
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[4])) == 3
    assert lines[5] == ""


@pytest.mark.parametrize(
    "name",
    [
        "![a](http://a.example/b.png)", "[a](http://a.example)", "[a][b]", "[a]: http://a.example", "<img src=x>",
        "http://a.example", "www.a.example", "[1.0, 2.0](http://a.example)", "`a`", "**a**", "~~a~~", "$x$", "&lt;",
    ],
)  # fmt: skip
def test_no_name_is_a_link_an_image_or_emphasis_in_markdown(name):
    rendered = mkdocs_markdown(
        to_markdown(Grid(name, ("task", name), (((name, "1.0 [0.5, 2.0]"),),), (name,)))
    )
    assert not re.search(r"<(a|img|code|em|del)\b", rendered), rendered
    assert html.unescape(rendered).count(name) == 4, "and it is shown as it is"


def mkdocs_markdown(text):
    markdown = pytest.importorskip("markdown")
    return markdown.markdown(text, extensions=["tables"])


def test_intervals_stay_readable_in_markdown_source():
    assert "92.0 [81.2, 96.9]" in to_markdown(GRID)


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", " =a", "\t=a", "\r=a", "\n=a"])
def test_no_text_is_a_formula_in_csv(name):
    text = to_csv(pd.DataFrame({name: [name], "difference": [-1.5]}))
    for line in csv.reader(text.splitlines()):
        assert line[0].startswith("'")
    assert text.splitlines()[1].endswith(",-1.5"), "numbers stay numbers"


@pytest.mark.parametrize("typeset", [to_markdown, to_html, to_text])
def test_no_name_controls_a_terminal_or_reorders_text(typeset):
    name = "\x1b[31mred\x07\x9b\u202e\udc80"
    text = typeset(Grid(name, ("task", name), (((name, name),),), (name,)))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)
    assert "x1b" in text
