"""Promises of the tables of a run."""

import dataclasses
import io
import re

import numpy as np
import pandas as pd
import pytest

from simloop.results.records.ledger import LedgerError
from simloop.results.records.records import load_queries
from simloop.results.statistics.intervals import wilson
from simloop.results.tables.latency_table import batch_fill
from simloop.results.tables.run_tables import render, write_tables
from tests.helpers.run_folders import EPISODE, broken, episodes, failed, with_queries, write_run

FORMATS = ("terminal", "md", "csv", "tex", "html")
CONFIG = {"experiment": {"suite": "metaworld", "policies": ["expert", "pi0-tiny", "late"], "episodes": 10}}


def latencies(record):
    """120 queries of an episode: 25 ms and more, the same for every run of the tests."""
    totals = 25 + np.random.default_rng(record.seed).exponential(5, size=120).round(3)
    return with_queries(record, totals.tolist())


@pytest.fixture
def run(tmp_path):
    """Two policies on two tasks: one has errors and is untrained, one episode has not finished."""
    pi0 = {"policy": "pi0-tiny", "weights": "untrained"}
    records = [
        *episodes(10, 0),
        *episodes(8, 1, task="push-v3"),
        *episodes(1, 9, **pi0),
        *episodes(0, 7, 3, task="push-v3", **pi0),
    ]
    made = [(record, []) if record.outcome == "error" else latencies(record) for record in records[:-10]]
    made += [(record, []) for record in records[-10:]]
    return write_run(
        tmp_path / "run",
        [record for record, _ in made],
        made,
        CONFIG,
        {"compile_s": {"expert": 0.0, "pi0-tiny": 12.34}},
    )


def test_the_success_table_for_the_terminal(run):
    assert render(run, "terminal", "success").splitlines()[:8] == [
        "Success in %, protocol metaworld/default-v1",
        "",
        "task                            expert           pi0-tiny (untrained)",
        "─────────────────────────────────────────────────────────────────────",
        "push-v3        88.9 a [56.5, 98.0] 8/9   0.0 b [0.0, 35.4] 0/7 +3 err",
        "reach-v3   100.0 a [72.2, 100.0] 10/10        10.0 b [1.8, 40.4] 1/10",
        "─────────────────────────────────────────────────────────────────────",
        "mean of 2    94.4 a [74.9, 99.0] 18/19  5.0 b [0.9, 28.3] 1/17 +3 err",
    ]


def test_the_latency_table_for_the_terminal_has_a_row_per_policy(run):
    lines = render(run, "terminal", "latency").splitlines()
    columns = "policy queries batch fill render adapt transport queue host device post p50 p90 p95 p99"
    assert " ".join(lines[2].split()) == columns
    expert, pi0 = lines[4:6]
    assert expert.split()[:5] == ["expert", "2280", "3.00", "75", "%"]
    totals = load_queries(run).query("policy == 'expert'")["total_ms"]
    assert expert.split()[-1] == f"{np.quantile(totals, 0.99, method='inverted_cdf'):.2f}"
    assert pi0.startswith("pi0-tiny (untrained)")


def test_stages_that_a_policy_does_not_have_show_a_dash(tmp_path):
    record, queries = with_queries(EPISODE, [25.0] * 3)
    scripted = [dataclasses.replace(query, render_ms=0.0) for query in queries]
    line = render(write_run(tmp_path, [record], [(record, scripted)]), "terminal", "latency").splitlines()[4]
    assert line.split()[5:7] == ["–", "0.50"]


def test_latencies_are_told_by_batch_where_it_varied(tmp_path):
    record, queries = with_queries(EPISODE, [25.0] * 4)
    mixed = [
        dataclasses.replace(query, batch=batch, device_ms=10.0 * batch)
        for query, batch in zip(queries, (1, 3, 3, 3), strict=True)
    ]
    text = render(write_run(tmp_path, [record], [(record, mixed)]), "md", "latency")
    assert "| expert | 1 | 4 | 1 | 10.00 | 10.00 | 10.00 | 25.00 | 25.00 |" in text
    assert "| expert | 3 | 4 | 3 | 30.00 | 10.00 | 30.00 | 25.00 | 25.00 |" in text


def test_only_what_is_significantly_best_is_bold(tmp_path):
    def policy(name, *counts):
        return episodes(*counts, policy=name, weights="trained")

    run = write_run(tmp_path / "clear", [*policy("good", 19, 1), *policy("bad", 2, 18)])
    assert "| **95.0 a [76.4, 99.1] 19/20** | 10.0 b [2.8, 30.1] 2/20 |" in swapped_columns(
        render(run, "md", "success")
    )
    assert render(run, "tex", "success").count(r"\textbf{") == 2, "the task and the mean"
    assert render(run, "html", "success").count("<strong>") == 2
    # Two that are alike at the top: neither is best, though one has the higher rate.
    run = write_run(
        tmp_path / "unclear", [*policy("good", 19, 1), *policy("fine", 17, 3), *policy("bad", 2, 18)]
    )
    assert "**" not in render(run, "md", "success").split("\n", 1)[1]
    assert "<strong>" not in render(run, "html", "success")


def swapped_columns(markdown):
    """The table with its two columns of policies in the other order."""
    rows = [line.split(" | ") for line in markdown.splitlines()]
    return "\n".join(
        f"| {row[2].removesuffix(' |')} | {row[1]} |" if len(row) == 3 else " | ".join(row) for row in rows
    )


def test_several_runs_become_columns_of_one_table(tmp_path):
    one = write_run(tmp_path / "one", episodes(9, 1))
    two = write_run(tmp_path / "two", episodes(2, 8, policy="pi0", weights="trained"))
    header = render([one, two], "terminal", "success").splitlines()[2]
    assert header.split() == ["task", "expert", "pi0"]


def test_hostile_names_are_text_in_html(tmp_path):
    run = write_run(tmp_path, episodes(1, policy="<script>alert(1)</script>"))
    text = render(run, "html")
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_errors_missing_episodes_and_absent_policies_are_told(run):
    for format in ("terminal", "md", "tex"):
        text = " ".join(render(run, format, "success").split())
        assert "3 of 20 episodes ended in an error and are in no rate (push-v3 3); the mean is 5.0 if" in text
        assert "expert: 1 of 20 planned episodes have not finished and are in no count." in text
        assert "No episode has finished of late." in text


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("table", ["success", "latency"])
def test_untrained_policies_are_marked_everywhere(run, format, table):
    text = render(run, format, table)
    if table == "success" and format in ("tex", "html"):  # In the head, the remark stands below the name.
        below = {"tex": r"(?s)& pi0-tiny \\.*?\\midrule", "html": "<th[^>]*>pi0-tiny<br>.*?</th>"}[format]
        (name,) = re.findall(below, text)
        assert "(untrained)" in name
        text = text.replace(name, "")
    assert text.count("pi0-tiny") == text.count("pi0-tiny (untrained)") > 0
    assert "expert (untrained)" not in text


def test_the_csv_holds_every_score(run):
    table = pd.read_csv(io.StringIO(render(run, "csv")))
    tasks = table[table["level"] == "task"].set_index(["policy", "task"])
    assert len(tasks) == 4
    row = tasks.loc[("pi0-tiny (untrained)", "push-v3")]
    assert row[["episodes", "completed", "successes", "failures", "errors", "missing"]].tolist() == [
        10,
        7,
        0,
        7,
        3,
        0,
    ]
    assert (row["low"], row["high"]) == pytest.approx((0.0, wilson(0, 7).high))
    assert (row["rate_if_errors_fail"], row["rate_if_errors_succeed"]) == (0.0, 0.3)
    mean = table[table["level"] == "mean"].set_index("policy").loc["expert"]
    assert mean["rate"] == pytest.approx((1 + 8 / 9) / 2)
    assert mean["missing"] == 1


def test_latencies_are_the_quantiles_of_the_queries(run):
    queries = load_queries(run)
    expert = queries[queries["policy"] == "expert"]
    wanted = [np.quantile(expert["total_ms"], q, method="inverted_cdf") for q in (0.5, 0.9, 0.95, 0.99)]
    found = " | ".join([*(f"{ms:.2f}" for ms in wanted), "2280", "3.00", "75 %"])
    assert f"| expert | total | {found} |" in render(run, "md", "latency")
    table = pd.read_csv(io.StringIO(render(run, "csv", "latency"))).set_index(["policy", "stage"])
    row = table.loc[("expert", "total")]
    assert row[["p50_ms", "p90_ms", "p95_ms", "p99_ms"]].tolist() == pytest.approx(wanted)
    assert row["p50_low_ms"] < row["p50_ms"] < row["p50_high_ms"]
    assert (row["queries"], row["episodes"]) == (2280, 19)


def test_compilation_is_told_apart_from_latencies(run):
    text = " ".join(render(run, "md", "latency").split())
    assert "Compilation and warm-up came before and are in no row: pi0-tiny (untrained) 12.3 s." in text


def test_few_queries_do_not_tell_a_p99(tmp_path):
    made = [with_queries(record, [25.0] * 20) for record in episodes(3)]
    run = write_run(tmp_path, [record for record, _ in made], made)
    line = "| expert | total | 25.00 | 25.00 | 25.00 | – | 60 | 3.00 | 75 % |"
    assert line in render(run, "md", "latency")
    assert "fewer than 500 queries do not tell a p99" in render(run, "md", "latency")
    assert pd.read_csv(io.StringIO(render(run, "csv", "latency")))["p99_ms"].isna().all()


def test_fill_counts_every_call_once():
    # A call of 3 queries in a bucket of 4, and a call of 1 in a bucket of 1.
    queries = pd.DataFrame({"batch": [3, 3, 3, 1], "bucket": [4, 4, 4, 1]})
    assert batch_fill(queries) == pytest.approx((4 / 2, 4 / 5))


def test_protocols_have_tables_of_their_own(tmp_path):
    other = "metaworld/default-v1+abcd1234"
    run = write_run(tmp_path, [*episodes(5), *episodes(0, 5, protocol=other)])
    for format in ("terminal", "md", "tex"):
        assert render(run, format, "success").count("Success in ") == 2
    assert f"protocol {other}" in render(run, "terminal")


def test_tables_are_written_beside_the_records(run):
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
def test_runs_that_have_just_begun_have_tables(tmp_path, format):
    run = write_run(tmp_path, [])
    text = render(run, format)
    assert "No success rates yet" in text if format != "csv" else text.startswith("suite,protocol,policy")
    assert "p50_ms" in render(run, "csv", "latency")


def test_policies_without_any_completed_episode_are_shown(tmp_path):
    text = render(write_run(tmp_path, [broken(EPISODE)]), "md", "success")
    assert "| reach-v3 | – 0/0 +1 err |" in text
    assert "expert has no mean: no completed episode of reach-v3." in text


def test_undecodable_tokens_are_told(tmp_path):
    record = failed(EPISODE)
    record = type(record)(**(record.to_dict() | {"undecodable": 2, "ended_by": "undecodable"}))
    text = render(write_run(tmp_path, [record]), "terminal", "success")
    assert "expert: in 1 of 1 episodes, tokens spelled no action." in text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(LedgerError, match="is no run folder"):
        render(tmp_path, "md")


@pytest.mark.parametrize(
    ("early", "said"),
    [({"limit": 3}, "limited to its first episodes"), ({"stopping": {"alpha": 0.05}}, "leave to stop")],
)
def test_what_ends_a_run_before_its_episodes_is_said_and_nothing_is_missing(tmp_path, early, said):
    config = {"experiment": {**CONFIG["experiment"], "policies": ["expert"], **early}}
    text = render(write_run(tmp_path, episodes(3), (), config, {}), "md", "success")
    assert said in text
    assert "have not finished" not in text
