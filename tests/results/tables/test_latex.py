"""LaTeX tables compile without edits, also with names that hold special characters of LaTeX."""

import dataclasses
import re
import shutil
import subprocess

import pytest

from simloop.results.tables.published import Published
from simloop.results.tables.run_tables import render
from tests.helpers.run_folders import episodes, with_queries, write_run

TABLES = ("success", "perturbations", "time", "published", "latency")
HOSTILE = r"50%_a\b{c}$d$#e&f~g^h<i>|j[k]"
PUBLISHED = [Published("expert", "metaworld", 0.9, 100, "protocol_1 & 100%", "doi:10.1/a_b#c")]

DOCUMENT = r"""\documentclass[twocolumn]{article}
\usepackage[margin=0.75in]{geometry}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
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
    return {name: render(run, "tex", name, PUBLISHED) for name in TABLES}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_balanced_ascii(tables, name):
    text = tables[name]
    assert r"\begin{tabular}" in text
    text = re.sub(r"(?m)^%.*", "", text)  # Comments hold titles as they are.
    assert text.isascii(), set(re.findall(r"[^\x00-\x7f]", text))
    # Without what is escaped, braces pair and nothing is left that LaTeX would take for its own.
    bare = re.sub(r"\\[\\{}$&#%_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[#%_~^]|\\b\b", bare)
    assert re.sub(r"\$(-|\\times|\\pm)\$", "", bare).count("$") == 0
    for tabular in re.findall(r"(?s)\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text):
        columns, body = tabular
        for line in body.splitlines():
            if line.endswith(("\\\\", "\\\\[-2pt]")):
                assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1, line
    assert text.count(r"\begin{") == text.count(r"\end{")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex (texlive-latex-base) to compile with")
def test_tables_compile_and_fit_a_two_column_article(tables, tmp_path):
    parts = []
    for name, text in tables.items():
        (tmp_path / f"{name}.tex").write_text(text, encoding="utf-8")
        parts.append(rf"\begin{{table*}}\centering\caption{{{name}}}\input{{{name}}}\end{{table*}}\clearpage")
    (tmp_path / "paper.tex").write_text(DOCUMENT % "\n".join(parts))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
    # Latencies by stage of several protocols are longer than a page, which is no complaint here.
    for complaint in ("Overfull", "Undefined", "Missing character"):
        assert complaint not in ended.stdout, ended.stdout[-3000:]
