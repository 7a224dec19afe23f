"""Designs cover the strengths that they promise to."""

import itertools

import numpy as np
import pytest

from simloop.results.statistics.designs import Design, DesignError

AXES = (("camera-noise", 0.2), ("light-dim", 1.0), ("actuation-delay", 4.0))


def test_each_axis_alone_has_equal_steps_up_to_its_largest_strength():
    points = Design("axes", AXES[:2], 2).strengths()
    assert points.tolist() == [[0.1, 0], [0.2, 0], [0, 0.5], [0, 1]]


def test_a_grid_holds_every_combination_of_levels():
    points = Design("grid", AXES[:2], 3).strengths()
    assert sorted(map(tuple, points.tolist())) == list(itertools.product([0, 0.1, 0.2], [0, 0.5, 1]))


def test_a_latin_hypercube_has_one_point_in_every_slice_of_every_axis():
    points = Design("latin", AXES[:2], 10, seed=3).strengths()
    for axis, (_, most) in enumerate(AXES[:2]):
        assert sorted(np.floor(points[:, axis] / most * 10).tolist()) == list(range(10))


def test_the_arms_of_a_sobol_design_differ_from_a_in_one_column_which_is_that_of_b():
    points = Design("sobol", AXES, 8, seed=1).strengths().reshape(5, 8, 3)
    a, b, mixed = points[0], points[1], points[2:]
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        np.testing.assert_array_equal(mixed[axis][:, axis], b[:, axis])
        np.testing.assert_array_equal(mixed[axis][:, others], a[:, others])


def test_whole_strengths_are_whole_and_equally_frequent():
    delays = Design("sobol", (("actuation-delay", 4.0),), 64).strengths()[:, 0]
    assert set(delays) == {0, 1, 2, 3, 4}
    assert np.bincount(delays.astype(int)).min() > 0.1 * len(delays)


def test_the_same_seed_draws_the_same_points():
    for method in ("latin", "sobol"):
        one, same, other = (Design(method, AXES, 8, seed=seed).strengths() for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)


def test_corners_are_all_combinations_but_the_unperturbed_one():
    assert Design("axes", AXES[:2]).corners() == ((0.0, 1.0), (0.2, 0.0), (0.2, 1.0))


@pytest.mark.parametrize(
    ("method", "axes", "size", "complaint"),
    [
        ("sobol", AXES, 12, "a power of 2; got 12"),
        ("grid", AXES, 1, "at least 2"),
        ("axes", (), 4, "one kind of perturbation or several"),
        ("axes", (AXES[0], AXES[0]), 4, "each once"),
        ("axes", (("camera-nose", 1.0),), 4, "There is no perturbation 'camera-nose'"),
        ("axes", (("camera-noise", 2.0),), 4, r"lies in \(0, 1\]"),
    ],
)
def test_a_design_without_points_is_refused(method, axes, size, complaint):
    with pytest.raises(DesignError, match=complaint):
        Design(method, axes, size)
