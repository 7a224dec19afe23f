"""Promises of the schema and of reading a run."""

import dataclasses
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simloop.results.records.frames import load
from simloop.results.records.ledger import LedgerError, decode_line, encode_line
from simloop.results.records.records import (
    EpisodeRecord,
    load_json,
    queries_from_dict,
    queries_to_dict,
    read_episodes,
    video_of,
)
from tests.helpers.run_folders import EPISODE, broken, episodes, with_queries, write_run


def ledger_with(folder, *payloads):
    """A run folder whose ledger holds these payloads."""
    write_run(folder, [])
    (folder / "episodes.jsonl").write_text("".join(map(encode_line, payloads)))
    return folder


counts = st.integers(0, 2**63 - 1)
endings = st.sampled_from(
    [("success", "success"), ("failure", "step_limit"), ("failure", "undecodable"), ("error", "error")]
)


@st.composite
def possible_records(draw):
    outcome, ended_by = draw(endings)
    queries = draw(counts)
    return draw(
        st.builds(
            EpisodeRecord,
            outcome=st.just(outcome),
            ended_by=st.just(ended_by),
            error=st.text() if outcome == "error" else st.just(""),
            episode=counts,
            seed=st.integers(-(2**63), 2**63 - 1),
            steps=counts,
            queries=st.just(queries),
            undecodable=st.integers(0, queries),
            attempts=st.integers(1, 2**63 - 1),
        )
    )


@given(possible_records())
def test_episodes_survive_the_ledger(episode):
    read = EpisodeRecord.from_dict(decode_line(encode_line(episode.to_dict()), "line"))
    assert all(
        a == b or (math.isnan(a) and math.isnan(b))
        for a, b in zip(dataclasses.astuple(read), dataclasses.astuple(episode), strict=True)
    )


def test_ledgers_without_step_limits_are_read_with_those_of_the_configuration(tmp_path):
    payload = EPISODE.to_dict()
    del payload["max_steps"]
    folder = ledger_with(tmp_path, payload)
    assert read_episodes(folder)[0].max_steps == 0
    (folder / "config.json").write_text('{"max_steps": {"reach-v3": 500}}')
    assert read_episodes(folder)[0].max_steps == 500


def test_queries_survive_the_ledger():
    _, queries = with_queries(EPISODE, [25.0, 30.5, 28.25])
    line = encode_line(queries_to_dict(EPISODE.key, queries))
    assert queries_from_dict(decode_line(line, "line"), "line") == (EPISODE.key, queries)


def test_missing_unknown_and_mistyped_fields_are_all_named(tmp_path):
    payload = EPISODE.to_dict()
    del payload["steps"], payload["seed"]
    with pytest.raises(
        LedgerError, match=r"episodes\.jsonl, line 2: missing fields: seed, steps; unknown fields: luck"
    ):
        load(ledger_with(tmp_path, EPISODE.to_dict(), payload | {"luck": 1}))
    payload = EPISODE.to_dict() | {"steps": 4.5, "outcome": "draw", "episode": True, "task": None}
    with pytest.raises(
        LedgerError, match=r"task = None.*episode = True.*outcome = 'draw'.*steps = 4\.5 \(wanted int"
    ):
        load(ledger_with(tmp_path, payload))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ended_by": "error"}, "the outcome success and the ending error"),
        ({"error": "RuntimeError"}, "the outcome success and the error 'RuntimeError'"),
        ({"steps": -1}, "steps = -1"),
        ({"queries": -3}, "queries = -3"),
        ({"attempts": 0}, "attempts = 0"),
        ({"queries": 2, "undecodable": 3}, "3 undecodable of 2 queries"),
    ],
)
def test_records_that_no_run_writes_are_refused_by_name(change, named, tmp_path):
    run = ledger_with(tmp_path, EPISODE.to_dict(), EPISODE.to_dict() | {"episode": 1} | change)
    with pytest.raises(LedgerError, match=rf"line 2: no run writes episode 1 of task 'reach-v3'.*{named}"):
        load(run)


def test_numbers_that_no_table_can_hold_are_refused(tmp_path):
    with pytest.raises(LedgerError, match="steps = 9223372036854775808"):
        load(ledger_with(tmp_path, EPISODE.to_dict() | {"steps": 2**63}))


def test_an_episode_counted_twice_is_refused(tmp_path):
    run = ledger_with(tmp_path, EPISODE.to_dict(), broken(EPISODE).to_dict())
    with pytest.raises(LedgerError, match="lines 1 and 2"):
        load(run)


def test_ledgers_written_before_retries_and_turns_were_recorded_are_read_with_0_for_both():
    _, queries = with_queries(EPISODE, [25.0, 26.0])
    payload = queries_to_dict(EPISODE.key, queries)
    for name in ("retry_ms", "turn_ms"):
        del payload["queries"][name]
    key, read = queries_from_dict(payload, "queries.jsonl, line 1")
    assert key == EPISODE.key
    assert read == [dataclasses.replace(query, retry_ms=0.0, turn_ms=0.0) for query in queries]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": ["expert", 0]}, r"wanted the key \[policy"),
        ({"queries": {"index": [0]}}, "missing fields: adapt_ms"),
        ({"queries": [1, 2]}, "wanted a list for every field"),
        ({"column": ("total_ms", [1.0])}, "equal numbers of values"),
        ({"column": ("index", [0, 2])}, "from 0 in order"),
        ({"column": ("batch", [1, "2"])}, r"batch = '2' \(wanted int\)"),
        ({"column": ("batch", [1, 0])}, "no run writes a query with batch = 0"),
        ({"column": ("total_ms", [1.0, math.inf])}, "no run writes a query with total_ms = inf"),
    ],
)
def test_malformed_queries_are_refused(change, message):
    _, queries = with_queries(EPISODE, [25.0, 26.0])
    payload = queries_to_dict(EPISODE.key, queries)
    if "column" in change:
        name, column = change["column"]
        payload["queries"] |= {name: column}
    else:
        payload |= change
    with pytest.raises(LedgerError, match=message):
        queries_from_dict(payload, "queries.jsonl, line 1")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(LedgerError, match=r"is no run folder: .* such as runs/demo"):
        load(tmp_path)
    with pytest.raises(LedgerError, match="is no run folder"):
        load(tmp_path / "missing")


def test_json_files_of_a_run_are_read(tmp_path):
    run = write_run(tmp_path, [], provenance={"compile_s": {"expert": 0.0}})
    assert load_json(run, "provenance.json") == {"compile_s": {"expert": 0.0}}
    (run / "config.json").write_text("{")
    with pytest.raises(LedgerError, match=r"config\.json is not JSON"):
        load_json(run, "config.json")
    (run / "config.json").write_text('{"experiment": {"policies": 3}}')
    with pytest.raises(LedgerError, match=r"config\.json: experiment\.policies: .* list"):
        load_json(run, "config.json")


@pytest.mark.parametrize(
    "name", ["../film.mp4", "/film.mp4", "videos/../../film.mp4", "videos/out/film.mp4", "config.json"]
)
def test_videos_outside_the_folder_of_videos_are_refused(name, tmp_path):
    run = write_run(tmp_path / "run", [])
    (tmp_path / "film.mp4").touch()
    (run / "videos").mkdir()
    (run / "videos" / "out").symlink_to(tmp_path)
    with pytest.raises(LedgerError, match=r"Do not trust this folder|leaves its folder"):
        video_of(run, name)


def test_files_of_a_run_that_are_links_out_of_it_are_refused(tmp_path):
    run = write_run(tmp_path / "run", [EPISODE])
    (run / "episodes.jsonl").rename(tmp_path / "episodes.jsonl")
    (run / "episodes.jsonl").symlink_to("../episodes.jsonl")
    with pytest.raises(LedgerError, match=r"episodes\.jsonl is, or lies behind, a symbolic link that leaves"):
        load(run)


def test_the_schema_alone_does_not_load_pandas():
    code = "import sys, simloop.results.records.records; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_episodes_keep_the_order_in_which_they_finished(tmp_path):
    records = episodes(3)[::-1]
    assert read_episodes(write_run(tmp_path, records)) == records
