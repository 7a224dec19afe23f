"""The trained policies that come with simloop."""

import dataclasses
import json

import pytest
from rich.console import Console

from simloop.harness.experiments import mt10
from simloop.harness.planning.seed_overlap import refuse_training_seeds, training_seeds
from simloop.harness.preparation import RunSettings
from simloop.harness.run import run
from simloop.policies.presets import PRESETS
from simloop.policies.training.demonstration import DEMONSTRATIONS
from simloop.results.records.records import read_episodes

BUNDLED = {name: preset.bundled for name, preset in PRESETS.items() if preset.bundled is not None}
MOST_BYTES = 30e6


def test_they_fit_into_the_box():
    sizes = [
        file.stat().st_size for folder in BUNDLED.values() for file in folder.rglob("*") if file.is_file()
    ]
    assert len(sizes) >= 3 * len(BUNDLED)
    assert sum(sizes) < MOST_BYTES


def test_no_published_evaluation_meets_a_state_they_were_trained_on():
    for folder in BUNDLED.values():
        seeds = training_seeds(folder)
        assert len(seeds) == 10
        assert all(len(of_task) >= 100 for of_task in seeds.values())
    refuse_training_seeds(mt10.EXPERIMENT, mt10.EXPERIMENT.plan())


def test_their_card_names_them_and_their_data():
    card = (next(iter(BUNDLED.values())).parent / "MODEL_CARD.md").read_text()
    for name, folder in BUNDLED.items():
        config = json.loads((folder / "simloop_checkpoint.json").read_text())["config"]
        assert DEMONSTRATIONS in config
        assert f"| {name} |" in card
        assert config["data"]["sha256"] in card


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("pi0-tiny", 11), ("pi05-tiny", 10), ("pi0_fast-tiny", 10)])
def test_they_do_what_they_were_trained_for(name, least, tmp_path):
    """Ten tasks, two episodes each, of which the card says 15, 14 and 14 or 15 of 20."""
    experiment = dataclasses.replace(mt10.EXPERIMENT, policies=(name,), episodes=2, seed=9)
    folder = run(experiment, tmp_path / "run", RunSettings(), Console()).folder
    outcomes = [record.outcome for record in read_episodes(folder)]
    assert len(outcomes) == 20
    assert outcomes.count("success") >= least
