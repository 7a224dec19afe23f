"""A check for lost success fails when the loss is shown, and says when nothing is."""

import numpy as np
import pytest

from simloop.results.records.runs import load_runs
from simloop.results.statistics.early_stopping import matrices
from simloop.results.statistics.outcome_matrix import OutcomeMatrix, StoppedRun
from simloop.results.statistics.regressions import regressions
from tests.helpers.run_folders import episodes, write_run


def verdict(tmp_path, old, new, margin=0.05, alpha=0.05):
    run = write_run(tmp_path, [*episodes(*old, policy="old"), *episodes(*new, policy="new")])
    (found,) = regressions(list(matrices(load_runs(run)).values()), "new", margin=margin, alpha=alpha)
    assert found.baseline == "old"
    return found.verdict


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((100, 0), (80, 20), "worse"),
        ((100, 0), (100, 0), "not worse"),
        ((80, 20), (100, 0), "not worse"),
        ((100, 0), (95, 5), "inconclusive"),
        ((5, 0), (5, 0), "inconclusive"),
    ],
)
def test_a_loss_counts_once_the_interval_shows_it(tmp_path, old, new, expected):
    assert verdict(tmp_path, old, new) == expected


def test_without_a_margin_any_shown_loss_counts(tmp_path):
    assert verdict(tmp_path, (100, 0), (93, 7), margin=0.0) == "worse"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [((100, 0), (80, 0, 20), "inconclusive"), ((80, 0, 20), (100, 0), "not worse")],
)
def test_errors_count_neither_for_nor_against_a_policy(tmp_path, old, new, expected):
    assert verdict(tmp_path, old, new) == expected


def test_every_further_baseline_makes_the_check_stricter():
    drawn = np.array([[1, 1, i % 10 > 0] for i in range(100)], float)

    def found(*policies):
        outcomes = OutcomeMatrix(
            "s",
            "p",
            policies,
            ("t",),
            np.zeros(100, np.int64),
            drawn[:, -len(policies) :],
            np.ones((100, len(policies))),
        )
        return regressions([outcomes], "new", margin=0.02)[0]

    assert found("old", "new").confidence == pytest.approx(0.90)
    assert found("older", "old", "new").confidence == pytest.approx(0.95)
    assert found("older", "old", "new").interval.high > found("old", "new").interval.high


def test_under_a_stopping_rule_the_interval_holds_at_every_look():
    success = np.array([[1, 0]] * 60, float)
    outcomes = OutcomeMatrix(
        "s", "p", ("old", "new"), ("t",), np.zeros(60, np.int64), success, np.ones((60, 2)),
        stopped=(StoppedRun(frozenset(("old", "new")), np.arange(60)),),
    )  # fmt: skip
    (one,) = regressions([outcomes], "new", margin=0.05)
    assert one.anytime
    assert one.verdict == "worse"
    assert one.confidence == pytest.approx(0.95)
