"""Promises of the records of a run as data frames."""

import dataclasses

import pytest

from simloop.results.records.frames import load, load_queries
from simloop.results.records.ledger import LedgerError, TornTail, encode_line
from simloop.results.records.records import EpisodeRecord
from tests.helpers.run_folders import EPISODE, episodes, with_queries, write_run


def test_loaded_episodes_are_typed_and_sorted(tmp_path):
    records = [*episodes(2, 1, 1, policy="pi0-tiny", weights="untrained"), *episodes(3, task="push-v3")]
    frame = load(write_run(tmp_path, reversed(records)))
    assert list(frame.columns) == [field.name for field in dataclasses.fields(EpisodeRecord)]
    assert frame["policy"].tolist() == ["expert"] * 3 + ["pi0-tiny"] * 4
    assert frame["episode"].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert frame["outcome"].tolist() == ["success"] * 5 + ["failure", "error"]
    assert frame.dtypes[["episode", "seed", "steps"]].tolist() == ["int64"] * 3
    assert frame.dtypes[["reward", "wall_s"]].tolist() == ["float64"] * 2
    assert frame["error"].tolist() == [""] * 6 + ["RuntimeError: the simulator diverged"]


def test_a_run_can_be_read_before_and_while_it_plays(tmp_path):
    run = write_run(tmp_path, [])
    (run / "episodes.jsonl").unlink()
    (run / "queries.jsonl").unlink()
    assert load(run).empty
    assert load(run).dtypes["steps"] == "int64"
    assert load_queries(run).empty

    first, second = episodes(2)
    line = encode_line(second.to_dict())
    (run / "episodes.jsonl").write_text(encode_line(first.to_dict()) + line[:40])
    with pytest.warns(TornTail):
        assert load(run)["episode"].tolist() == [0]


def test_queries_are_joined_with_their_episodes(tmp_path):
    records = [with_queries(record, [25.0 + record.episode] * 3) for record in episodes(2, task="push-v3")]
    frame = load_queries(write_run(tmp_path, [record for record, _ in records], records))
    assert frame["episode"].tolist() == [0, 0, 0, 1, 1, 1]
    assert frame["index"].tolist() == [0, 1, 2] * 2
    assert frame["total_ms"].tolist() == [25.0] * 3 + [26.0] * 3
    assert set(frame["task"]) == {"push-v3"}
    assert {"policy", "weights", "suite", "protocol", "outcome", "device_ms", "bucket"} <= set(frame.columns)
    assert frame.dtypes["bucket"] == "int64"


def test_queries_of_episodes_that_never_finished_are_left_out(tmp_path):
    finished, unfinished = (with_queries(record, [25.0, 26.0]) for record in episodes(2))
    frame = load_queries(write_run(tmp_path, [finished[0]], [finished, unfinished]))
    assert frame["episode"].tolist() == [0, 0]


def test_an_episode_played_again_counts_with_its_last_queries(tmp_path):
    # The first time, the run was killed between the two files.
    first, second = with_queries(EPISODE, [99.0]), with_queries(EPISODE, [25.0, 26.0])
    frame = load_queries(write_run(tmp_path, [second[0]], [first, second]))
    assert frame["total_ms"].tolist() == [25.0, 26.0]


def test_lost_queries_are_an_error_and_not_a_smaller_sample(tmp_path):
    record, queries = with_queries(EPISODE, [25.0, 26.0])
    with pytest.raises(
        LedgerError, match=r"wanted the 2 queries that episodes\.jsonl says episode 0.*; got 1"
    ):
        load_queries(write_run(tmp_path, [record], [(record, queries[:1])]))
    run = write_run(tmp_path, [record], [(record, queries)])
    (run / "queries.jsonl").unlink()
    with pytest.raises(LedgerError, match="wanted the 2 queries"):
        load_queries(run)
