"""Success of LIBERO-plus by what was changed, in pairs with the unchanged tasks."""

import dataclasses

import pytest

from simloop.results.records.runs import load_runs
from simloop.results.tables.axis_table import axis_scores
from simloop.results.tables.options import TableOptions
from simloop.results.tables.run_tables import render
from tests.helpers.run_folders import episodes, write_run

AXES = TableOptions(only="axes")
PROTOCOL = "libero_plus/libero-plus-v1"


@pytest.fixture
def runs(tmp_path):
    """Three tasks that succeed from state 0, and whose camera variants fail in one, two and three of three cases."""
    records = []

    def play(task, successes, failures=0, errors=0):
        for record in episodes(
            successes,
            failures,
            errors,
            suite="libero_plus",
            policy="pi0",
            weights="w",
            protocol=PROTOCOL,
            task=task,
        ):
            records.append(dataclasses.replace(record, episode=0))

    for number, task in enumerate(("a", "b", "c")):
        play(task, 1)
        for i in range(3):
            play(f"{task}_view_{i + 1}_0_100_0_0_initstate_0", int(i > number), int(i <= number))
    play("a_view_0_0_100_0_0_initstate_7", 0, 0, 1)
    return load_runs(write_run(tmp_path / "run", records))


def test_changes_are_paired_with_the_unchanged_task_and_clustered_by_it(runs):
    scores = {score.axis: score for score in axis_scores(runs)}
    assert [(axis, score.successes, score.completed) for axis, score in scores.items()] == [
        ("original", 3, 3), ("camera", 3, 9), ("robot", 0, 0),
    ]  # fmt: skip
    change = scores["camera"].change
    assert (change.difference, change.clusters, scores["camera"].pairs) == (pytest.approx(-6 / 9), 3, 9)
    assert change.interval.low == -1.0  # Three tasks bound little.
    assert change.interval.high > -0.2
    assert scores["camera"].p_holm == change.p_value
    assert scores["original"].change is scores["robot"].change is None
    assert scores["robot"].errors == 1


def test_the_table_has_a_row_per_axis(runs):
    text = render(runs, "terminal", AXES)
    assert "Success in % by what was changed, protocol libero_plus/libero-plus-v1" in text
    assert "adjusted for the 1 change of all" in text
    assert len(render(runs, "csv", AXES).splitlines()) == 4


def test_runs_without_variants_say_how_they_are_played(tmp_path):
    assert "simloop run libero_plus" in render(write_run(tmp_path / "run", episodes(1, 1)), "terminal", AXES)
