"""The example of a paper's folder, made from the runs of the gallery, compiles in every class."""

import re
from pathlib import Path

import pytest

from simloop.results.report.paper import write_paper
from simloop.results.report.paper_check import check_paper
from simloop.results.tables.document_class import DOCUMENT_CLASSES
from simloop.results.tables.options import TableOptions
from simloop.results.tables.preview import compile_latex
from tests.helpers.latex import assert_fonts_are_embedded, needs_latex

RUNS = Path(__file__).parents[3] / "docs" / "gallery" / "runs"


@pytest.mark.slow
@needs_latex
@pytest.mark.parametrize("document", DOCUMENT_CLASSES)
def test_the_example_compiles_and_its_numbers_are_found_again(tmp_path, document):
    write_paper([RUNS / "main", RUNS / "noise"], tmp_path, TableOptions(document=document))
    pdf, log = compile_latex((tmp_path / "example.tex").read_text(), tmp_path)
    overfull = [float(points) for points in re.findall(r"Overfull \\[hv]box \(([\d.]+)pt", log)]
    assert max(overfull, default=0.0) <= 1.0, log
    assert "Missing character" not in log
    assert_fonts_are_embedded(pdf)
    found = check_paper(tmp_path / "example.tex")
    assert len(found.numbers) == 3
    assert not found.wrong
