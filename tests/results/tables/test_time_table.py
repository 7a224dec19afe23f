"""The table of times to success."""

import dataclasses

import pandas as pd
import pytest

from simloop.results.records.runs import load_runs
from simloop.results.tables.run_tables import render
from simloop.results.tables.time_table import time_frame
from tests.helpers.run_folders import broken, episodes, write_run


def test_censors_failures_at_the_limit_and_leaves_errors_out(tmp_path):
    records = [*episodes(3, 1), broken(episodes(5)[4])]
    runs = load_runs(write_run(tmp_path, records))
    (row,) = time_frame(runs.episodes, runs.labels).itertuples()
    assert (row.completed, row.successes, row.limit_steps) == (4, 3, 500)
    assert row.mean_steps == pytest.approx((3 * 42 + 500) / 4)
    assert row.median_success_steps == 42
    line = render(tmp_path, "terminal", "time").splitlines()[4]
    assert line.split()[:3] == ["reach-v3", "500", "156"]
    assert "limit_steps" in render(tmp_path, "csv", "time")
    assert "No times yet" in render(write_run(tmp_path / "none", []), "md", "time")
    assert isinstance(time_frame(runs.episodes.head(0), runs.labels), pd.DataFrame)


def test_uses_the_recorded_step_limit(tmp_path):
    records = episodes(0, 2, steps=0)
    records = [dataclasses.replace(record, ended_by="undecodable", steps=0) for record in records]
    run = write_run(tmp_path, records, config={"max_steps": {"reach-v3": 300}})
    runs = load_runs(run)
    (row,) = time_frame(runs.episodes, runs.labels, runs.step_limits).itertuples()
    assert (row.limit_steps, row.mean_steps) == (300, 300.0)
    assert "longest completed episode" not in render(run, "md", "time")
    assert "longest completed episode" in render(write_run(tmp_path / "old", records), "md", "time")
