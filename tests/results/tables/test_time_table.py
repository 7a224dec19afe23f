"""The table of times to success."""

import dataclasses

import pandas as pd
import pytest

from simloop.results.records.runs import load_runs
from simloop.results.tables.run_tables import table
from simloop.results.tables.time_table import time_frame
from tests.helpers.run_folders import broken, episodes, write_run


def test_censors_failures_at_the_limit_and_leaves_errors_out(tmp_path):
    records = [*episodes(3, 1, max_steps=500), broken(episodes(5, max_steps=500)[4])]
    runs = load_runs(write_run(tmp_path, records))
    (row,) = time_frame(runs.episodes, runs.labels).itertuples()
    assert (row.completed, row.successes, row.limit_steps) == (4, 3, 500)
    assert row.mean_steps == pytest.approx((3 * 42 + 500) / 4)
    assert row.median_success_steps == 42
    line = table(tmp_path, only="time").to_text().splitlines()[4]
    assert line.split()[:3] == ["reach-v3", "500", "156"]
    assert "limit_steps" in table(tmp_path, only="time").to_csv()
    assert "No times yet" in table(write_run(tmp_path / "none", []), only="time").to_markdown()
    assert isinstance(time_frame(runs.episodes.head(0), runs.labels), pd.DataFrame)


def test_a_policy_that_gives_up_at_once_takes_the_whole_limit(tmp_path):
    idle = [
        dataclasses.replace(r, ended_by="undecodable", steps=0)
        for r in episodes(0, 2, policy="idle", steps=0)
    ]
    records = [dataclasses.replace(r, max_steps=300) for r in [*episodes(2), *idle]]
    runs = load_runs(write_run(tmp_path, records))
    means = {row.policy: row.mean_steps for row in time_frame(runs.episodes, runs.labels).itertuples()}
    assert means == {"expert": 42.0, "idle": 300.0}


def test_takes_a_limit_that_the_ledger_lacks_from_the_configuration_or_says_that_it_is_unknown(tmp_path):
    records = episodes(1, 1)
    run = write_run(tmp_path / "old", records, config={"max_steps": {"reach-v3": 300}})
    runs = load_runs(run)
    (row,) = time_frame(runs.episodes, runs.labels).itertuples()
    assert (row.limit_steps, row.mean_steps) == (300, (42 + 300) / 2)
    text = table(write_run(tmp_path / "older", records), only="time").to_markdown()
    assert "| reach-v3 | – | – |" in text
    assert "No mean where the records do not hold the step limit: reach-v3." in text


def test_shows_no_interval_where_a_stopping_rule_decides_the_number_of_episodes(tmp_path):
    experiment = {"suite": "metaworld", "policies": ["expert"], "episodes": 9, "stopping": {"alpha": 0.05}}
    run = write_run(tmp_path, episodes(3, 1, max_steps=500), config={"experiment": experiment})
    assert "| reach-v3 | 500 | 156 |" in table(run, only="time").to_markdown()
