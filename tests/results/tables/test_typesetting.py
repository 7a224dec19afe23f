"""Typesetting: every format holds the same cells, and no text is read as markup."""

import re

from hypothesis import given
from hypothesis import strategies as st

from simloop.results.tables.grid import Grid
from simloop.results.tables.typesetting import to_markdown, to_tex, to_text

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


def test_tex_is_a_booktabs_tabular():
    lines = to_tex(GRID).splitlines()
    assert lines[:5] == [
        "% Success in %",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"task & pi0\_fast & a\textbar{}b \& c \\",
        r"\midrule",
    ]
    assert lines[5] == r"reach\_v3 & 92.0 {[}81.2, 96.9{]} & -- \\"
    assert lines[6] == r"{[}odd{]} \textasciitilde{}x\textasciicircum{}2 & 0 \{\} & \$5 \#1 \\"
    assert lines[7:11] == [r"\midrule", r"mean & 1 & 2 \\", r"\bottomrule", r"\end{tabular}"]


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
    signs = {"-": "−", "\\times": "×", "\\pm": "±"}
    pattern = r"\\(text\w+)\{\}|\\([{}$&#%_])|\{([\[\]])\}|\$(-|\\times|\\pm)\$"
    return re.sub(pattern, lambda m: names[m[1]] if m[1] else m[2] or m[3] or signs[m[4]], text).replace(
        "--", "–"
    )


@given(cells.filter(lambda cell: "-" not in cell))
def test_tex_prints_every_cell_verbatim(cell):
    row = to_tex(Grid("t", ("a", "b"), (((cell, "end"),),))).splitlines()[5]
    assert row.endswith(r" & end \\")
    assert from_tex(row.removesuffix(r" & end \\")) == cell


@given(cells)
def test_no_cell_breaks_a_markdown_table(cell):
    lines = to_markdown(Grid("t", ("a", "b"), (((cell, "end"),),))).split("\n")
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[4])) == 3
    assert lines[5] == ""
