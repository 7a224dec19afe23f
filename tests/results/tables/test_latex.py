"""LaTeX tables compile without edits, also with names that hold special characters of LaTeX."""

import dataclasses
import re

import pytest

from simloop.results.records.runs import load_runs
from simloop.results.statistics.intervals import Interval
from simloop.results.tables.document_class import DOCUMENT_CLASSES
from simloop.results.tables.grid import Grid, percent_cell
from simloop.results.tables.latex import escape_tex, to_latex
from simloop.results.tables.options import TableOptions
from simloop.results.tables.preview import compile_latex, latex_document
from simloop.results.tables.published import Published, published_to_csv
from simloop.results.tables.run_tables import table
from tests.helpers.latex import assert_fonts_are_embedded, needs_latex
from tests.helpers.run_folders import episodes, with_queries, write_run

TABLES = ("success", "perturbations", "time", "published", "latency")
HOSTILE = r"50%_a\b{c}$d$#e&f~g^h<i>|j[k]"
PUBLISHED = [Published("expert", "metaworld", 0.9, 100, "protocol_1 & 100%", "doi:10.1/a_b#c")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every table of a run with three policies, one with a hostile name, on two tasks, perturbed and unperturbed."""
    records = []
    for protocol in ("metaworld/default-v1", "metaworld/default-v1 with camera-noise=0.1"):
        for policy, counts in (("expert", (9, 1)), ("pi0-tiny", (2, 7, 1)), (HOSTILE, (5, 5))):
            weights = "untrained" if policy == "pi0-tiny" else "trained"
            for task in ("push-v3", HOSTILE):
                records += episodes(*counts, policy=policy, task=task, weights=weights, protocol=protocol)
    made = []
    for number, record in enumerate(records):
        record, queries = with_queries(record, [20.0, 30.0] if record.outcome != "error" else [])
        made.append((record, [dataclasses.replace(query, batch=1 + number % 2) for query in queries]))
    config = {
        "experiment": {"suite": "metaworld", "policies": ["expert", HOSTILE, "pi0-tiny"], "episodes": 11}
    }
    run = write_run(tmp_path_factory.mktemp("run"), [record for record, _ in made], made, config)
    published = tmp_path_factory.mktemp("published") / "published.csv"
    published.write_text(published_to_csv(PUBLISHED))
    return load_runs(run), published


@pytest.fixture(scope="module")
def grids(runs):
    """Every table, and one with policies as rows."""
    loaded, published = runs
    turned = table(loaded, rows="policies", emphasis=("bold", "underline"), cells=("rate", "half-width"))
    return {name: table(loaded, only=name, published=published).grids() for name in TABLES} | {
        "turned": turned.grids()
    }


@pytest.fixture(scope="module")
def tables(grids):
    return {name: to_latex(here, TableOptions(), name) for name, here in grids.items()}


@pytest.mark.parametrize("name", [*TABLES, "turned"])
def test_tables_are_balanced_ascii(tables, name):
    text = tables[name]
    assert r"\begin{tabular*}" in text
    text = re.sub(r"(?m)^%.*", "", text)  # Comments hold titles as they are.
    assert text.isascii(), set(re.findall(r"[^\x00-\x7f]", text))
    # Without what is escaped, braces pair and nothing is left that LaTeX would take for its own.
    bare = re.sub(r"\\[\\{}$&#%_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[#%_~^]|\\b\b", bare)
    assert re.sub(r"\$(-|\\times|\\pm|\\Delta)\$", "", bare).count("$") == 0
    assert text.count(r"\begin{") == text.count(r"\end{")


def test_says_which_packages_it_needs(tables):
    first = tables["success"].splitlines()[0]
    assert first == r"% Needs \usepackage{booktabs}\usepackage{siunitx}\usepackage{threeparttable}"


def test_caption_label_and_environment_are_those_of_the_options(runs):
    text = table(
        runs[0], caption="Rates & more", label="tab:main", float="table*", document="neurips"
    ).to_latex()
    assert r"\caption{Rates \& more}" in text
    assert r"\label{tab:main}" in text
    bare = table(runs[0], float="none").to_latex()
    assert not re.search(r"\\begin\{table\*?\}", bare)
    assert r"\caption" not in bare
    assert "In brackets the 95" in bare, "the notes stay"


def test_numbers_are_aligned_by_siunitx_and_stressed_ones_in_boxes(tmp_path):
    good, bad = (
        episodes(k, 20 - k, policy=name, weights="trained") for name, k in (("good", 19), ("bad", 2))
    )
    text = table(write_run(tmp_path, [*good, *bad]), cells=("rate", "interval")).to_latex()
    assert "S[table-format=2.1" in text
    assert r"\llap{\textbf{95.0}}" in text
    assert "10.0 {" in text


def test_a_table_that_is_too_wide_or_too_long_is_split():
    columns = ("task", *(f"policy-{i:02}" for i in range(12)))
    cell = percent_cell(0.7, Interval(0.481, 0.855), "14/20", letters="ab")
    rows = tuple((f"task-number-{i:02}", *[cell] * 12) for i in range(60))
    options = TableOptions(document="iclr")
    text = to_latex([Grid("Success", columns, (rows,), ("A note.",), options=options)], options, "success")
    parts = re.findall(r"Part (\d) of (\d)", text)
    assert len(parts) == int(parts[0][1]) > 3
    assert text.count(r"\begin{tablenotes}") == 1
    assert {text.count(f"task-number-{i:02}") for i in range(60)} == {text.count("task-number-00")}
    assert all(text.count(name) == text.count("policy-00") for name in columns[1:])


@needs_latex
@pytest.mark.parametrize("document", DOCUMENT_CLASSES)
def test_tables_compile_and_fit_every_class(grids, tmp_path, document):
    options = TableOptions(document=document)
    body = "\n".join(to_latex(here, options, name) for name, here in grids.items())
    source = latex_document(DOCUMENT_CLASSES[document], body)
    pdf, log = compile_latex(source, tmp_path)
    overfull = [float(points) for points in re.findall(r"Overfull \\[hv]box \(([\d.]+)pt", log)]
    assert max(overfull, default=0.0) <= 1.0, log
    for complaint in ("Undefined", "Missing character", "too large for page"):
        assert complaint not in log, log
    assert_fonts_are_embedded(pdf)


def test_greek_letters_and_subscripts_are_those_of_latex():
    assert escape_tex("π₀.₅ and λ") == r"$\pi$$_{0.5}$ and $\lambda$"


def test_a_table_of_many_tasks_stacks_its_cells_before_it_is_split():
    columns = ("policy", "button-press-topdown-v3", *(f"drawer-open-v{i}" for i in range(6)))
    row = [percent_cell(1.0, Interval(0.722, 1.0), "10/10")] * 7
    options = TableOptions(document="corl", cells=("rate", "half-width"))
    text = to_latex([Grid("Success", columns, ((("expert", *row),),), options=options)], options, "success")
    assert "Part" not in text
    assert r"{\scriptsize $\pm$ 27.8}" in text


def test_a_table_that_is_split_has_parts_of_about_equal_width():
    columns = ("policy", *(f"policy-{i:02}" for i in range(15)))
    cell = percent_cell(0.7, Interval(0.481, 0.855), "14/20", letters="ab")
    options = TableOptions(document="corl")
    text = to_latex([Grid("t", columns, ((("expert", *[cell] * 15),),), options=options)], options, "success")
    parts = [len(re.findall(r"S\[table", part)) for part in text.split(r"\begin{threeparttable}")[1:]]
    assert sum(parts) == 15
    assert max(parts) - min(parts) <= 1
