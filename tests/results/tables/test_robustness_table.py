"""Tables and figures of a design of perturbations."""

from functools import partial

import pytest

from simloop.results.figures.catalog import drawings
from simloop.results.figures.style import one_panel
from simloop.results.records.runs import load_runs
from simloop.results.statistics.designs import Design
from simloop.results.statistics.robustness import axis_sensitivities
from simloop.results.tables import robustness_table
from simloop.results.tables.run_tables import table
from tests.helpers.simulated_policies import write_design_run

AXES = (("camera-noise", 0.5), ("light-dim", 1.0), ("state-noise", 0.1))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(
        robustness_table, "axis_sensitivities", partial(axis_sensitivities, resamples=50), raising=True
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("design")
    return load_runs(write_design_run(folder, Design("sobol", AXES, 16), episodes=12))


def test_changes_along_each_axis_and_indices_are_two_tables(runs):
    curves, indices = table(runs, only="robustness").grids()
    assert curves.title == "Success in % along each axis of the design, protocol metaworld/default-v1"
    assert len(curves.groups[0]) == 1 + 3 * 4, "the control, and four ranges of every axis"
    assert [row[1] for row in indices.groups[0]] == [kind for kind, _ in AXES]
    text = table(runs, only="robustness").to_text()
    assert "camera-noise: standard deviation, share of the pixel range" in " ".join(text.split())


def test_the_frame_holds_every_number_of_the_tables(runs):
    frame = table(runs, only="robustness").to_frame()
    counts = frame.groupby("quantity").size().to_dict()
    assert counts == {"change": 12, "success": 12, "first-order": 3, "total": 3}
    first = frame[(frame["axis"] == "camera-noise") & (frame["quantity"] == "first-order")].iloc[0]
    assert first["low"] <= first["value"] <= first["high"]


@pytest.mark.slow
def test_every_axis_has_a_figure_of_the_same_numbers_and_points_have_none(runs):
    made = drawings(runs)
    assert [name for name in made if name.startswith("robustness")] == [f"robustness-{i}" for i in (1, 2, 3)]
    assert sum(name.startswith("success") for name in made) == 2, "of the control alone"
    _, axes = one_panel(2.0)
    drawn = made["robustness-1"].draw(axes)
    frame = table(runs, only="robustness").to_frame()
    changes = frame[(frame["axis"] == "camera-noise") & (frame["quantity"] == "change")]
    assert drawn["points"].tolist() == pytest.approx((100 * changes["value"]).tolist())


def test_the_success_table_of_a_design_is_that_of_its_control(runs):
    (grid,) = table(runs).grids()
    assert "default-v1" in grid.title
    assert " with " not in grid.title
