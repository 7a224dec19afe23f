"""Success along the axes of a design is compared with the unperturbed control of the same episodes."""

import math

import numpy as np
import pytest

from simloop.results.records.runs import load_runs
from simloop.results.statistics.designs import Design
from simloop.results.statistics.robustness import (
    axis_curve,
    axis_sensitivities,
    change_interval,
    design_outcomes,
    without_points,
)
from tests.helpers.simulated_policies import BEST, RESPONSES, success_rates, write_design_run

AXES = (("camera-noise", 0.5), ("light-dim", 1.0), ("state-noise", 0.1))


def found(tmp_path, method, size, episodes=20, axes=AXES):
    runs = load_runs(write_design_run(tmp_path, Design(method, axes, size), episodes=episodes))
    (one,) = design_outcomes(runs)
    return one, runs


def test_each_axis_alone_is_compared_with_the_control(tmp_path):
    one, _ = found(tmp_path, "axes", 4, episodes=40)
    assert one.protocol == "metaworld/default-v1"
    first = axis_curve(one, 0)
    assert [point.low for point in first] == [0.125, 0.25, 0.375, 0.5]
    assert all(point.points == 1 and point.episodes == 40 for point in first)
    for point in first:
        assert point.rate == pytest.approx(BEST * RESPONSES[0](point.low / 0.5), abs=0.2)
    assert first[-1].interval.high < 0
    assert all(point.change == 0 for point in axis_curve(one, 2)), (
        "the same episodes succeed where nothing changes"
    )
    assert axis_sensitivities(one) is None


def test_drawn_strengths_are_averaged_within_ranges_that_cover_all_points(tmp_path):
    one, _ = found(tmp_path, "sobol", 16, episodes=12)
    for axis, (_, most) in enumerate(AXES):
        curve = axis_curve(one, axis)
        assert (curve[0].low, curve[-1].high) == (0, most)
        assert sum(point.points for point in curve) == 16 * 5
    assert axis_sensitivities(one, resamples=50)


def test_levels_of_a_grid_include_none_of_an_axis(tmp_path):
    one, _ = found(tmp_path, "grid", 2, episodes=4, axes=AXES[:2])
    assert [(point.low, point.points) for point in axis_curve(one, 0)] == [(0.0, 2), (0.5, 2)]
    np.testing.assert_array_equal(one.outcomes[0], one.control)


def test_points_of_a_design_stay_out_of_tables_and_figures_of_protocols(tmp_path):
    _, runs = found(tmp_path, "axes", 2, episodes=2)
    assert set(without_points(runs).episodes["protocol"]) == {"metaworld/default-v1"}


def test_equal_changes_do_not_pass_for_certainty():
    interval = change_interval(np.zeros(10))
    assert interval.low < -0.1 < 0.1 < interval.high


@pytest.mark.nightly
@pytest.mark.parametrize("episodes", [10, 20, 50])
def test_intervals_of_changes_cover_the_change(episodes):
    shares = np.linspace([0, 0, 0], [1, 1, 1], 6)[1:]
    rates, control = success_rates(shares), BEST
    truth, rng, runs, held = rates.mean() - control, np.random.default_rng(0), 4000, 0
    for _ in range(runs):
        luck = rng.random(episodes)
        held += truth in change_interval((luck < rates[:, None]).mean(axis=0) - (luck < control))
    print(f"\n| Agresti-Min of changes over 5 points | {episodes} episodes | {100 * held / runs:.1f} % |")
    assert held / runs > 0.95 - 2.5 * math.sqrt(0.95 * 0.05 / runs)
