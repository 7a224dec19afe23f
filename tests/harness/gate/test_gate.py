"""The gate runs before a run: it refuses what cannot be right, and the run goes on where it is told to."""

import dataclasses

import pytest

from simloop.envs import registry
from simloop.harness.adapters.adapter_file import use_adapter_file
from simloop.harness.engine.resources import Resources
from simloop.harness.gate.gate import GateError, pass_gate
from simloop.harness.gate.training import training_of
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.policy_names import parse
from simloop.harness.planning.protocol import named_protocol
from simloop.harness.preparation import RunSettings, prepare

FLIPPED = """
import dataclasses
from simloop.harness.adapters.metaworld import METAWORLD_HAND

ADAPTER = dataclasses.replace(METAWORLD_HAND, image=lambda image: image[::-1])
"""
TINY = {"pi0-tiny": parse("pi0-tiny")}
REACH = registry.resolve_tasks("metaworld", ["reach"])


@pytest.fixture
def flipped(tmp_path):
    file = tmp_path / "flipped.py"
    file.write_text(FLIPPED)
    yield use_adapter_file(f"{file}:ADAPTER")
    use_adapter_file(None)


def test_a_bundled_policy_on_its_own_tasks_passes_without_a_word():
    tasks = registry.resolve_tasks("metaworld", ["MT10"])
    assert pass_gate("refuse", TINY, tasks, ["suite"]) == ()


def test_a_run_with_turned_images_is_refused_unless_it_is_told_to_go_on(flipped):
    protocol = dataclasses.replace(named_protocol("metaworld"), adapter=flipped)
    experiment = Experiment("", "metaworld", ("reach-v3",), ("pi0-tiny",), 1, protocol=protocol)
    with pytest.raises(GateError) as refusal:
        prepare(experiment, RunSettings(Resources()))
    assert str(refusal.value) == (
        "pi0-tiny on metaworld, images: upside down and mirrored, compared with those of the registered adapter. "
        "Correct the adapter or the checkpoint (simloop doctor --suite S --policy P says more), or go on with --gate "
        "warn."
    )
    (note,) = pass_gate("warn", TINY, REACH, ["suite"])
    assert "upside down" in note
    assert pass_gate("off", TINY, REACH, ["suite"]) == ()


def test_a_task_that_the_policy_was_not_trained_on_is_worth_a_note():
    (note,) = pass_gate("refuse", TINY, registry.resolve_tasks("metaworld", ["hammer"]), ["suite"])
    assert "is none of the 10 training prompts; the nearest is" in note


def test_the_training_of_a_checkpoint_is_read_without_its_weights():
    training = training_of(TINY["pi0-tiny"])
    assert training.normalization == "z_score"
    assert len(training.instructions) == 10
    assert training.stats["state"].mean.shape == (4,)
    assert training_of(parse("pi0-tiny@random")).stats == {}
    assert training_of(parse("expert")).stats == {}
