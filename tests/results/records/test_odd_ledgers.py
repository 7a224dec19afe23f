"""Promises for runs that came out oddly: every table, comparison and report is right about them, or refuses."""

import dataclasses

import pytest

from simloop.results.errors import ResultsError
from simloop.results.records.ledger import LedgerError
from simloop.results.records.runs import load_runs
from simloop.results.report.html_report import write_report
from simloop.results.tables.run_tables import table
from simloop.results.tables.statements import comparison
from tests.helpers.families import first_of
from tests.helpers.run_folders import EPISODE, episodes, with_queries, write_run

pytestmark = pytest.mark.usefixtures("svg_only")

PI0 = {"policy": "pi0", "weights": "trained"}


def asked(record, *totals_ms):
    return with_queries(record, list(totals_ms)) if record.outcome != "error" else (record, [])


def backwards(record):
    """An episode during which the clock was set back by an hour."""
    record, queries = asked(dataclasses.replace(record, wall_s=-3599.0), 20.0, -3_599_980.0)
    return record, queries


ODD = {
    "no successes": ([*episodes(0, 5), *episodes(0, 5, **PI0)], "0.0 [0.0, 43.4] 0/5", "is undetermined"),
    "one episode": ([*episodes(1)], "100.0 [20.7, 100.0] 1/1", "nothing to compare"),
    "one episode each": ([*episodes(1), *episodes(0, 1, **PI0)], "0.0 [0.0, 79.3] 0/1", "is undetermined"),
    "all errors": ([*episodes(0, 0, 5), *episodes(0, 0, 5, **PI0)], "– 0/0 +5 err", "nothing to compare"),
    "errors of one": ([*episodes(5), *episodes(0, 0, 5, **PI0)], "– 0/0 +5 err", "nothing to compare"),
    "unequal numbers": (
        [*episodes(50), *episodes(1, 2, **PI0), *episodes(3, task="push-v3"), *episodes(9, 9, task="push-v3", **PI0)],
        "41.7 b [",
        "significantly above every other",
    ),
    "two protocols": (
        [*episodes(5), *episodes(0, 5, protocol="metaworld/other")],
        "0.0 [0.0, 43.4] 0/5",
        "nothing to compare",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    first_of("two protocols", *(kind for kind in ODD if kind != "two protocols")),
)
def test_odd_runs_have_every_table_and_a_report(kind, tmp_path):
    records, cell, headline = ODD[kind]
    made = [asked(record, 20.0, 30.0) for record in records]
    run = write_run(tmp_path / "run", [record for record, _ in made], made)
    runs = load_runs(run)
    assert cell in table(runs).to_markdown()
    for name in ("success", "latency", "time", "published", "perturbations", "delays"):
        for format in ("terminal", "md", "csv", "tex", "html"):
            text = table(runs, only=name).text(format)
            assert "nan" not in text.lower(), (name, format)
    if len(runs.policies) > 1:
        assert comparison(runs)
    else:
        with pytest.raises(ResultsError, match="comparison takes two policies"):
            comparison(runs)
    write_report([run], tmp_path / "report")
    data = "".join(file.read_text() for file in (tmp_path / "report" / "data").glob("*.js"))
    assert headline in data


def test_a_clock_that_goes_backwards_spoils_latencies_alone(tmp_path):
    records = [*episodes(5), *episodes(2, 3, **PI0)]
    made = [backwards(record) for record in records]
    run = write_run(tmp_path / "run", [record for record, _ in made], made)
    straight = [asked(record, 20.0, 30.0) for record in records]
    other = write_run(tmp_path / "other", [record for record, _ in straight], straight)
    assert table(run).to_markdown() == table(other).to_markdown()
    assert comparison(load_runs(run)) == comparison(load_runs(other))
    assert "−3599980.00" in table(run, only="latency").to_markdown(), "nothing is hidden"
    write_report([run], tmp_path / "report")


def test_an_episode_that_is_there_twice_is_refused_everywhere(tmp_path):
    run = write_run(tmp_path / "run", [EPISODE, EPISODE])
    for read in (
        load_runs,
        lambda run: table(run).to_markdown(),
        lambda run: write_report([run], tmp_path / "report"),
    ):
        with pytest.raises(LedgerError, match="lines 1 and 2 both record episode 0"):
            read(run)
    assert not (tmp_path / "report").exists(), "a refused report leaves nothing behind"
