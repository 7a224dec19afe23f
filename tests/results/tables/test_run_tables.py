"""Tables of runs in every format."""

import json
import re

import numpy as np
import pytest

from simloop.results.records.ledger import LedgerError
from simloop.results.records.runs import load_runs
from simloop.results.tables.run_tables import MixedRuns, render, table, write_tables
from simloop.results.tables.statements import comparison
from tests.helpers.run_folders import episodes, with_queries, write_run
from tests.results.tables.conftest import CONFIG

FORMATS = ("terminal", "md", "csv", "tex", "html")


def test_joins_several_runs_as_columns(tmp_path):
    one = write_run(tmp_path / "one", episodes(9, 1))
    two = write_run(tmp_path / "two", episodes(2, 8, policy="pi0", weights="trained"))
    header = table([one, two]).to_text().splitlines()[2]
    assert header.split() == ["task", "expert", "pi0"]


def test_escapes_hostile_names_in_html(tmp_path):
    run = write_run(tmp_path, episodes(1, policy="<script>alert(1)</script>"))
    text = table(run).to_html()
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["success", "latency"])
def test_marks_untrained_policies_everywhere(run, format, name):
    text = table(run, only=name).text(format)
    if name == "success" and format in ("tex", "html"):  # In the head, the remark stands below the name.
        below = {"tex": r"shortstack\{pi0-tiny.*?\}", "html": "<th[^>]*>pi0-tiny<br>.*?</th>"}[format]
        (head,) = re.findall(below, text)
        assert "(untrained)" in head
        text = text.replace(head, "")
    assert text.count("pi0-tiny") == text.count("pi0-tiny (untrained)") > 0
    assert "expert (untrained)" not in text


def test_separates_protocols(tmp_path):
    other = "metaworld/default-v1+abcd1234"
    run = write_run(tmp_path, [*episodes(5), *episodes(0, 5, protocol=other)])
    for format in ("terminal", "md", "tex"):
        assert table(run).text(format).count("Success in %, protocol") == 2
    assert f"protocol {other}" in table(run).to_text()


def test_writes_tables_into_the_run_folder(run):
    names = [f"{name}.{format}" for name in ("success", "latency") for format in ("md", "csv", "tex")]
    assert write_tables(run) == [run / name for name in names]
    for name in names:
        only, format = name.split(".")
        assert (run / name).read_text() == table(run, only=only).text(format)
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
        for name in ("success", "latency"):
            assert table(shuffled, only=name).text(format) == table(run, only=name).text(format)


@pytest.mark.parametrize("format", FORMATS)
def test_renders_runs_without_episodes(tmp_path, format):
    run = write_run(tmp_path, [])
    text = render(run, format)
    assert "No success rates yet" in text if format != "csv" else text.startswith("suite,protocol,policy")
    assert "p50_ms" in table(run, only="latency").to_csv()


def test_rejects_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(LedgerError, match="is no run folder"):
        table(tmp_path)


def unlike_runs(tmp_path):
    """Runs of two policies with other software, devices and batch sizes."""

    def write(name, start, device):
        provenance = {
            "starts": [start],
            "policies": {name: {"device": device}, "expert": {"device": "cpu"}},
        }
        return write_run(tmp_path / name, episodes(3, policy=name, weights="trained"), provenance=provenance)

    one = write("pi0", {"packages": {"mujoco": "3.3.0"}, "commit": "ab", "renderer": "none"}, "cpu")
    two = write("pi05", {"packages": {"mujoco": "3.4.0"}, "commit": "ab", "buckets": [1, 2]}, "H200")
    return one, two


@pytest.mark.parametrize("name", ["success", "latency", "time"])
@pytest.mark.parametrize("format", ["terminal", "md", "tex", "html"])
def test_every_table_says_how_runs_of_different_policies_were_not_computed_alike(tmp_path, name, format):
    one, two = unlike_runs(tmp_path)
    made = with_queries(episodes(1, policy="pi0", weights="trained")[0], [25.0])
    write_run(one, [made[0]], [made], provenance=json.loads((one / "provenance.json").read_text()))
    text = " ".join(table([one, two], only=name).text(format).replace(r"\allowbreak{}", "").split())
    assert "packages.mujoco: 3.3.0 -" in text
    assert "other software may compute other episodes" in text
    assert "Policies differ in device: cpu (pi0" in text
    assert "commit" not in text
    assert "Runs differ" not in table([one], only=name).text(format)


def test_a_csv_table_warns_how_its_runs_were_not_computed_alike(tmp_path):
    with pytest.warns(MixedRuns, match=r"mujoco: 3.3.0 -> 3.4.0"):
        table(unlike_runs(tmp_path)).to_csv()


def test_a_comparison_says_how_its_runs_were_not_computed_alike(tmp_path):
    ((_, sentences, _),) = comparison(load_runs(unlike_runs(tmp_path)))
    assert "packages.mujoco: 3.3.0 -> 3.4.0" in sentences[-2]
    assert sentences[-1].startswith("Policies differ in device: cpu (pi0); H200 (pi05)")
