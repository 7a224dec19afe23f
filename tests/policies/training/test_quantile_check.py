"""Stated quantiles that the data contradict."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from simloop.harness import doctor
from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.quantile_check import outside_quantiles, stated_statistics
from simloop.policies.transforms.normalization import EntryStats
from tests.helpers.lerobot_datasets import write_v3

X = np.concatenate([np.linspace(0, 1, 200), np.linspace(10, 11, 200)])[:, None]


def stats(q01, q99):
    return EntryStats(np.zeros(1), np.ones(1), np.array([q01]), np.array([q99]))


def test_says_that_quantiles_averaged_over_episodes_miss_the_data():
    (text,) = outside_quantiles("state", X, stats(5.0, 6.0))
    assert text == (
        "100 % of state, entry 0, lie far outside its stated quantiles, 5 to 6; in the data they are 0.0201 and 11."
    )


@pytest.mark.parametrize("seed", range(3))
def test_true_quantiles_are_never_complained_about(seed):
    rng = np.random.default_rng(seed)
    for x in (
        rng.normal(size=(999, 1)),
        rng.standard_cauchy((999, 1)),
        (rng.uniform(size=(999, 1)) < 0.015) * 1.0,
    ):
        assert outside_quantiles("state", x, stats(*np.quantile(x, [0.01, 0.99]))) == []


def test_doctor_checks_the_statistics_of_a_dataset(tmp_path):
    folder = write_v3(tmp_path / "d")

    def checked(q01, q99):
        entry = {"mean": [0.0] * 4, "std": [1.0] * 4, "q01": [q01] * 4, "q99": [q99] * 4}
        (folder / "meta/stats.json").write_text(json.dumps({"observation.state": entry}))
        console = Console(file=io.StringIO(), width=300)
        return doctor.main(console, dataset=folder), console.file.getvalue()

    status, text = checked(-1.0, 12.0)
    assert status == 0, text
    assert "3 episodes, 12 frames at 10 per second" in text
    status, text = checked(5.0, 6.0)
    assert status == 1
    assert "lie far outside its stated quantiles, 5 to 6" in text
    (folder / "meta/stats.json").write_text(json.dumps({"action": {"mean": [0.0], "std": [-1.0]}}))
    with pytest.raises(DatasetError, match=r"stats\.json: std of 'action', entry 0, is -1"):
        stated_statistics(folder, {"actions": "action"})
