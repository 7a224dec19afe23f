import dataclasses

import numpy as np
import pytest

from simloop.policies.checkpoints import CheckpointError, save_checkpoint
from simloop.policies.inference.loading import NoWeightsError, load_policy
from simloop.policies.models.parameters import flatten
from simloop.policies.presets import PRESETS, UnknownPresetError
from simloop.policies.transforms.normalization import identity_stats


@pytest.fixture(scope="module")
def untrained():
    return load_policy("pi0-tiny", seed=3, random_weights=True)


def test_random_weights_are_drawn_from_the_seed(untrained):
    assert untrained.spec.weights == "untrained"
    again, other = (load_policy("pi0-tiny", seed=seed, random_weights=True) for seed in (3, 4))
    name = "action_out_proj/kernel"
    np.testing.assert_array_equal(flatten(again.model)[name], flatten(untrained.model)[name])
    assert np.abs(flatten(other.model)[name] - flatten(untrained.model)[name]).max() > 0


def test_tiny_presets_come_with_trained_weights(untrained):
    bundled = load_policy("pi0-tiny")
    assert bundled.spec.weights == "trained"
    assert bundled.fingerprint()["weights"] != untrained.fingerprint()["weights"]


def test_full_size_presets_need_weights():
    with pytest.raises(
        NoWeightsError, match=r"published at gs://.*/pi0_libero; download .* pi0_libero@FOLDER"
    ):
        load_policy("pi0_libero")


def test_unknown_presets_are_named():
    with pytest.raises(UnknownPresetError, match="pi05-tiny"):
        load_policy("pi05_tiny")


def test_a_saved_checkpoint_answers_like_the_policy_it_came_from(untrained, tmp_path):
    stats = {"state": identity_stats(4), "actions": identity_stats(4)}
    save_checkpoint(
        tmp_path / "trained",
        flatten(untrained.model),
        preset="pi0-tiny",
        normalization="z_score",
        config={},
        norm_stats={"metaworld": stats},
    )
    loaded = load_policy("pi0-tiny", tmp_path / "trained")
    assert loaded.spec.weights == "trained"
    assert loaded.fingerprint()["weights"] == untrained.fingerprint()["weights"]
    np.testing.assert_array_equal(loaded.stats["state"].mean, np.zeros(4))


def test_a_checkpoint_of_another_model_is_refused(untrained, tmp_path):
    save_checkpoint(
        tmp_path / "pi0",
        flatten(untrained.model),
        preset=None,
        normalization="quantile",
        config={},
        norm_stats={"metaworld": {"state": identity_stats(4), "actions": identity_stats(4)}},
    )
    with pytest.raises(CheckpointError, match="time_mlp_in"):
        load_policy("pi05-tiny", tmp_path / "pi0")


def test_a_checkpoint_written_for_another_preset_is_refused(untrained, tmp_path):
    save_checkpoint(
        tmp_path / "pi0",
        flatten(untrained.model),
        preset="pi0-tiny",
        normalization=None,
        config={},
        norm_stats={},
    )
    with pytest.raises(CheckpointError, match="written for preset 'pi0-tiny'; got 'pi05-tiny'"):
        load_policy("pi05-tiny", tmp_path / "pi0")


def test_a_checkpoint_and_random_weights_contradict_each_other(tmp_path):
    with pytest.raises(ValueError, match="contradict"):
        load_policy("pi0-tiny", tmp_path, random_weights=True)


def test_presets_of_one_robot_share_its_interface():
    specs = [PRESETS[name].spec() for name in ("pi0-tiny", "pi05-tiny", "pi0_fast-tiny")]
    assert len({dataclasses.replace(spec, name="", guidance=()) for spec in specs}) == 1
