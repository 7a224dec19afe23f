"""Ledgers that are read at once give what reading them line by line gives, or are left to it."""

import dataclasses

import pandas as pd
import pytest

from simloop.results.records import frames
from simloop.results.records.ledger import encode_line
from simloop.results.records.plain_ledger import plain_ledger
from tests.helpers.run_folders import EPISODE, episodes, write_run

RECORDS = [*episodes(2, 1, 1), *episodes(1, 2, policy="pi0", weights="trained", task="push-v3", max_steps=9)]
WITH_LIMIT = [dataclasses.replace(record, max_steps=record.max_steps or 500) for record in RECORDS]


def test_reading_at_once_equals_reading_line_by_line(tmp_path, monkeypatch):
    run = write_run(tmp_path, WITH_LIMIT)
    at_once = frames.load(run)
    assert plain_ledger(run / "episodes.jsonl") is not None
    monkeypatch.setattr(frames, "plain_ledger", lambda path: None)
    pd.testing.assert_frame_equal(at_once, frames.load(run), check_exact=True)


ODD = {
    "altered": lambda line: line.replace("42", "43"),
    "without a limit": lambda line: encode_line(EPISODE.to_dict()),
    "a contradiction": lambda line: encode_line(EPISODE.to_dict() | {"outcome": "failure", "max_steps": 5}),
    "a negative number": lambda line: encode_line(EPISODE.to_dict() | {"steps": -1, "max_steps": 5}),
    "another type": lambda line: encode_line(EPISODE.to_dict() | {"steps": "1", "max_steps": 5}),
    "a truth value": lambda line: encode_line(EPISODE.to_dict() | {"steps": True, "max_steps": 5}),
    "nothing": lambda line: encode_line(EPISODE.to_dict() | {"task": None, "max_steps": 5}),
    "another field": lambda line: encode_line(EPISODE.to_dict() | {"more": 1, "max_steps": 5}),
    "nesting": lambda line: encode_line(EPISODE.to_dict() | {"task": [[]], "max_steps": 5}),
    "an episode twice": lambda line: line + line,
    "a torn tail": lambda line: line[:-9],
    "no line": lambda line: "",
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_unusual_is_left_to_reading_line_by_line(tmp_path, kind):
    line = encode_line(dataclasses.replace(EPISODE, max_steps=500).to_dict())
    file = tmp_path / "episodes.jsonl"
    file.write_text(line)
    assert len(plain_ledger(file)) == 1
    file.write_text(ODD[kind](line))
    assert plain_ledger(file) is None
