"""Tables of runs in every format."""

import re

import numpy as np
import pytest

from simloop.results.records.ledger import LedgerError
from simloop.results.tables.run_tables import render, write_tables
from tests.helpers.run_folders import episodes, write_run
from tests.results.tables.conftest import CONFIG

FORMATS = ("terminal", "md", "csv", "tex", "html")


def test_joins_several_runs_as_columns(tmp_path):
    one = write_run(tmp_path / "one", episodes(9, 1))
    two = write_run(tmp_path / "two", episodes(2, 8, policy="pi0", weights="trained"))
    header = render([one, two], "terminal", "success").splitlines()[2]
    assert header.split() == ["task", "expert", "pi0"]


def test_escapes_hostile_names_in_html(tmp_path):
    run = write_run(tmp_path, episodes(1, policy="<script>alert(1)</script>"))
    text = render(run, "html")
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("table", ["success", "latency"])
def test_marks_untrained_policies_everywhere(run, format, table):
    text = render(run, format, table)
    if table == "success" and format in ("tex", "html"):  # In the head, the remark stands below the name.
        below = {"tex": r"(?s)& pi0-tiny \\.*?\\midrule", "html": "<th[^>]*>pi0-tiny<br>.*?</th>"}[format]
        (name,) = re.findall(below, text)
        assert "(untrained)" in name
        text = text.replace(name, "")
    assert text.count("pi0-tiny") == text.count("pi0-tiny (untrained)") > 0
    assert "expert (untrained)" not in text


def test_separates_protocols(tmp_path):
    other = "metaworld/default-v1+abcd1234"
    run = write_run(tmp_path, [*episodes(5), *episodes(0, 5, protocol=other)])
    for format in ("terminal", "md", "tex"):
        assert render(run, format, "success").count("Success in ") == 2
    assert f"protocol {other}" in render(run, "terminal")


def test_writes_tables_into_the_run_folder(run):
    names = [f"{table}.{format}" for table in ("success", "latency") for format in ("md", "csv", "tex")]
    assert write_tables(run) == [run / name for name in names]
    for name in names:
        table, format = name.split(".")
        assert (run / name).read_text() == render(run, format, table)
    assert not list(run.glob(".*"))


def test_tables_do_not_depend_on_the_order_of_episodes(run, tmp_path):
    lines = {
        name: (run / name).read_text().splitlines(keepends=True)
        for name in ("episodes.jsonl", "queries.jsonl")
    }
    shuffled = write_run(tmp_path / "shuffled", [], (), CONFIG, {"compile_s": {"pi0-tiny": 12.34}})
    for name, content in lines.items():
        (shuffled / name).write_text("".join(np.random.default_rng(0).permutation(content)))
    for format in ("terminal", "csv"):
        for table in ("success", "latency"):
            assert render(shuffled, format, table) == render(run, format, table)


@pytest.mark.parametrize("format", FORMATS)
def test_renders_runs_without_episodes(tmp_path, format):
    run = write_run(tmp_path, [])
    text = render(run, format)
    assert "No success rates yet" in text if format != "csv" else text.startswith("suite,protocol,policy")
    assert "p50_ms" in render(run, "csv", "latency")


def test_rejects_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(LedgerError, match="is no run folder"):
        render(tmp_path, "md")
