"""The example of a paper's folder, made from the runs of the gallery, compiles in every class."""

import os
import re
import subprocess
import sys
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


@pytest.mark.slow
def test_processes_with_other_orders_of_sets_write_the_same_bytes(tmp_path):
    call = "write_paper([Path(sys.argv[1])], Path(sys.argv[2]))"
    script = (
        f"import sys; from pathlib import Path; from simloop.results.report.paper import write_paper; {call}"
    )
    made = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", script, RUNS / "main", out], check=True, env=environment)
        files = (file for file in out.rglob("*") if file.is_file())
        made.append({file.relative_to(out): file.read_bytes() for file in files})
    assert made[0] == made[1]
    assert {"figures/success-column.pdf", "tables/success.tex", "MANIFEST.json"} <= set(map(str, made[0]))
