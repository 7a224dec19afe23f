"""The tables of query latencies."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from simloop.results.records.frames import load_queries
from simloop.results.tables.latency_table import batch_fill
from simloop.results.tables.run_tables import table
from tests.helpers.run_folders import EPISODE, episodes, with_queries, write_run


def test_terminal_table_has_a_row_per_policy(run):
    lines = table(run, only="latency").to_text().splitlines()
    columns = "policy queries batch fill render adapt transport queue host device post turn p50 p90 p95 p99"
    assert " ".join(lines[2].split()) == columns
    expert, pi0 = lines[4:6]
    assert expert.split()[:5] == ["expert", "2280", "3.00", "75", "%"]
    totals = load_queries(run).query("policy == 'expert'")["total_ms"]
    assert expert.split()[-1] == f"{np.quantile(totals, 0.99, method='inverted_cdf'):.2f}"
    assert pi0.startswith("pi0-tiny (untrained)")


def test_shows_a_dash_for_stages_that_a_policy_lacks(tmp_path):
    record, queries = with_queries(EPISODE, [25.0] * 3)
    scripted = [dataclasses.replace(query, render_ms=0.0) for query in queries]
    line = (
        table(write_run(tmp_path, [record], [(record, scripted)]), only="latency").to_text().splitlines()[4]
    )
    assert line.split()[5:7] == ["–", "0.50"]


def test_splits_latencies_by_batch_where_it_varied(tmp_path):
    record, queries = with_queries(EPISODE, [25.0] * 4)
    mixed = [
        dataclasses.replace(query, batch=batch, device_ms=10.0 * batch)
        for query, batch in zip(queries, (1, 3, 3, 3), strict=True)
    ]
    text = table(write_run(tmp_path, [record], [(record, mixed)]), only="latency").to_markdown()
    assert "| expert | 1 | 4 | 1 | 10.00 | 10.00 | 10.00 | 25.00 | 25.00 |" in text
    assert "| expert | 3 | 4 | 3 | 30.00 | 10.00 | 30.00 | 25.00 | 25.00 |" in text


def test_latencies_are_quantiles_of_the_queries(run):
    queries = load_queries(run)
    expert = queries[queries["policy"] == "expert"]
    wanted = [np.quantile(expert["total_ms"], q, method="inverted_cdf") for q in (0.5, 0.9, 0.95, 0.99)]
    found = " | ".join([*(f"{ms:.2f}" for ms in wanted), "2280", "3.00", "75 %"])
    assert f"| expert | total | {found} |" in table(run, only="latency").to_markdown()
    frame = table(run, only="latency").to_frame().set_index(["policy", "stage"])
    row = frame.loc[("expert", "total")]
    assert row[["p50_ms", "p90_ms", "p95_ms", "p99_ms"]].tolist() == pytest.approx(wanted)
    assert row["p50_low_ms"] < row["p50_ms"] < row["p50_high_ms"]
    assert (row["queries"], row["episodes"]) == (2280, 19)


def test_notes_name_compilation_apart_from_latencies(run):
    text = " ".join(table(run, only="latency").to_markdown().split())
    assert "Compilation and warm-up are not included (pi0-tiny (untrained) 12.3 s)." in text


def test_totals_are_without_retries_which_a_note_counts(tmp_path):
    record, queries = with_queries(EPISODE, [25.0] * 3)
    queries[0] = dataclasses.replace(queries[0], retry_ms=4000.0, total_ms=4025.0)
    run = write_run(tmp_path, [record], [(record, queries)])
    text = " ".join(table(run, only="latency").to_markdown().split())
    assert "| expert | total | 25.00 | 25.00 | 25.00 | – | 3 |" in text
    assert "| expert | retry | 0.00 | 4000.00 |" in text
    assert "retry: 1 of 3 queries waited for a connection" in text
    assert "for up to 4.0 s" in text


def test_reports_no_p99_for_few_queries(tmp_path):
    made = [with_queries(record, [25.0] * 20) for record in episodes(3)]
    run = write_run(tmp_path, [record for record, _ in made], made)
    line = "| expert | total | 25.00 | 25.00 | 25.00 | – | 60 | 3.00 | 75 % |"
    assert line in table(run, only="latency").to_markdown()
    assert "p99 is not reported for fewer than 500 queries" in table(run, only="latency").to_markdown()
    assert table(run, only="latency").to_frame()["p99_ms"].isna().all()


def test_fill_counts_every_call_once():
    # A call of 3 queries in a bucket of 4, and a call of 1 in a bucket of 1.
    queries = pd.DataFrame({"batch": [3, 3, 3, 1], "bucket": [4, 4, 4, 1]})
    assert batch_fill(queries) == pytest.approx((4 / 2, 4 / 5))
