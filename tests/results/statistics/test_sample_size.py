"""Sample sizes: published formulas, and power confirmed by simulation."""

import math

import numpy as np
import pytest

from simloop.results.errors import ResultsError
from simloop.results.statistics.paired import Pairs, equivalence, mcnemar_mid_p
from simloop.results.statistics.sample_size import (
    Design,
    detectable_difference,
    equivalence_episodes,
    paired_episodes,
    sequential_detectable_difference,
    sequential_outlook,
    sequential_power,
    unpaired_episodes,
)
from simloop.results.tables.sample_size_table import detectable_grid, difference_grid, equivalence_grid


@pytest.mark.parametrize(
    ("base", "episodes", "unpaired", "paired", "closely_paired"),
    [
        (0.90, 50, 0.228, 0.196, None),
        (0.90, 100, 0.150, 0.126, 0.094),
        (0.90, 500, 0.060, 0.050, 0.038),
        (0.90, 2000, 0.030, 0.024, 0.018),
        (0.95, 500, 0.048, 0.038, 0.028),
        (0.95, 2000, 0.022, 0.018, 0.014),
        (0.50, 50, 0.268, 0.236, 0.182),
        (0.50, 500, 0.090, 0.076, 0.058),
    ],
)
def test_detectable_differences_equal_known_values(base, episodes, unpaired, paired, closely_paired):
    # Known on a grid of 0.002, as the first point that reaches the power.
    def on_grid(correlation, pairs):
        found = detectable_difference(Design(base, correlation), episodes, paired=pairs)
        return pytest.approx(math.ceil(found / 0.002) * 0.002)

    assert unpaired == on_grid(0.0, False)
    assert paired == on_grid(0.3, True)
    assert closely_paired is None or closely_paired == on_grid(0.6, True)


def drawn(design, difference, episodes, runs):
    only_better, only_worse = design.discordant(difference)
    both = design.base - only_better
    shares = [both, only_better, only_worse, 1 - both - only_better - only_worse]
    return [
        Pairs(*map(int, row)) for row in np.random.default_rng(0).multinomial(episodes, shares, size=runs)
    ]


def test_planned_episodes_give_the_planned_power():
    design = Design(0.9, 0.15)
    episodes = math.ceil(paired_episodes(design, 0.06))
    found = [mcnemar_mid_p(pairs) < 0.05 for pairs in drawn(design, 0.06, episodes, 600)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)
    episodes = math.ceil(equivalence_episodes(design, 0.05))
    same = [equivalence(pairs, 0.05).equivalent for pairs in drawn(design, 0.0, episodes, 600)]
    assert np.mean(same) == pytest.approx(0.8, abs=0.04)


def test_clipped_correlation_keeps_the_rates():
    for correlation in (-0.9, 0.0, 0.15, 0.9):
        design = Design(0.9, correlation)
        only_better, only_worse = design.discordant(0.1)
        assert only_better - only_worse == pytest.approx(0.1)
        assert min(only_better, only_worse) >= 0
    assert Design(0.9, 0.0).discordant(0.1) == pytest.approx((0.9 * 0.2, 0.1 * 0.8))


@pytest.mark.parametrize(
    ("base", "worse", "correlation", "max_pairs", "power", "mean_pairs"),
    [
        (0.90, 0.80, 0.3, 500, 0.992, 160),
        (0.90, 0.85, 0.3, 500, 0.475, None),
        (0.90, 0.85, 0.6, 500, 0.821, 280),
        (0.97, 0.94, 0.2, 2000, 0.984, 683),
        (0.90, 0.87, 0.4, 2000, 0.762, 1211),
    ],
)
def test_sequential_power_equals_known_values(base, worse, correlation, max_pairs, power, mean_pairs):
    found, mean = sequential_power(Design(base, correlation), base - worse, max_pairs)
    assert found == pytest.approx(power, abs=0.04)
    assert mean_pairs is None or mean == pytest.approx(mean_pairs, rel=0.06)


def test_the_sequential_outlook_reaches_the_power_with_fewer_pairs_on_average():
    design = Design(0.9, 0.15)
    outlook = sequential_outlook(design, 0.1)
    power, mean = sequential_power(design, 0.1, outlook.max_pairs)
    assert power == pytest.approx(0.8, abs=0.03)
    assert mean == pytest.approx(outlook.mean_pairs, rel=0.05)
    assert outlook.mean_pairs < paired_episodes(design, 0.1) * 1.2 < outlook.max_pairs
    detectable = sequential_detectable_difference(design, outlook.max_pairs)
    assert detectable == pytest.approx(0.1, abs=0.01)


def test_more_comparisons_and_looser_pairs_take_more_episodes():
    base = paired_episodes(Design(), 0.05)
    assert paired_episodes(Design(comparisons=10), 0.05) > base
    assert paired_episodes(Design(correlation=0.6), 0.05) < base < unpaired_episodes(Design(), 0.05)
    assert paired_episodes(Design(), 0.0) == math.inf


def test_planning_tables():
    rows = detectable_grid(Design(0.9, 0.3), (2, 100)).rows
    assert rows[0][1] == "–"
    assert rows[1][:3] == ("100", "15.0", "12.5")
    rows = difference_grid(Design(0.9, 0.15), 0.05, tasks=10).rows
    assert rows[0] == ("unpaired, fixed", "686", "69", "–")
    assert difference_grid(Design(), 0.0005, 1).rows[2][1] == "> 20000"
    assert equivalence_grid(Design(), 0.02, 1).rows[0][1] == "3276"


@pytest.mark.parametrize(
    "call",
    [
        lambda: Design(base=1.0),
        lambda: Design(power=0.0),
        lambda: Design(correlation=1.0),
        lambda: Design(comparisons=0),
        lambda: Design(0.5).discordant(0.6),
        lambda: difference_grid(Design(0.5), 0.0, 1),
    ],
)
def test_rejects_impossible_designs(call):
    with pytest.raises(ResultsError, match="got"):
        call()
