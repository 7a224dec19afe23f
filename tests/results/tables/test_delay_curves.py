"""Success rate against the delay of a policy's answers."""

import dataclasses

import pytest

from simloop.results.figures.curves import draw_delays
from simloop.results.figures.style import one_panel
from simloop.results.records.runs import load_runs
from simloop.results.statistics.paired import Pairs, mcnemar_mid_p
from simloop.results.tables.delay_curves import delay_curves, loss_sentence
from simloop.results.tables.run_tables import table
from tests.helpers.run_folders import episodes, write_run

BASE = "metaworld/default-v1"


@pytest.fixture
def runs(tmp_path):
    counts = {BASE: (20, 0), f"{BASE}, naive at 2": (19, 1), f"{BASE}, naive at 8": (5, 15)}
    records = [
        dataclasses.replace(record, held=2, age_steps=3.0, jerk=0.5, seam_jump=0.25)
        for protocol, own in counts.items()
        for record in episodes(*own, policy="pi0", weights="trained", task="push-v3", protocol=protocol)
    ]
    return load_runs([write_run(tmp_path / "sweep", records)])


def test_a_curve_begins_at_the_world_that_stands_still_and_pairs_every_delay_with_it(runs):
    (curve,) = delay_curves(runs)
    assert (curve.protocol, curve.policy, curve.mode) == (BASE, "pi0", "naive")
    assert [(point.label.delay, point.mean.rate) for point in curve.points] == [
        ("0", 1),
        ("2", 0.95),
        ("8", 0.25),
    ]
    plain, short, long = curve.points
    assert plain.change is None
    assert (short.change.pairs, long.change.pairs) == (Pairs(19, 0, 1, 0), Pairs(5, 0, 15, 0))
    assert long.change.p_value == mcnemar_mid_p(Pairs(5, 0, 15, 0))
    assert long.motion["age_steps"] == 3.0


def test_states_the_delay_that_costs_five_points_with_its_interval(runs):
    (curve,) = delay_curves(runs)
    at, low, high = curve.loss_at()
    assert at == pytest.approx(2.0)
    assert low < at < high
    assert "has lost five points of success at a delay of 2.0 control steps" in loss_sentence(curve, "pi0")


def test_the_table_shows_every_delay_and_can_be_read_as_csv(runs):
    text = table(runs, only="delays").to_text()
    assert "naive" in text
    assert "held: share of control steps" in text
    rows = table(runs, only="delays").to_csv().splitlines()
    assert [row.split(",")[4] for row in rows] == ["delay", "none", "2", "8"]


def test_the_figure_draws_a_line_per_policy_and_execution(runs):
    _, axes = one_panel(2.0)
    draw_delays(axes, delay_curves(runs), runs.labels)
    assert axes.get_xlabel() == "delay in control steps"
