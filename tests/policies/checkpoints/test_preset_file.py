"""`preset.toml`: robots without a preset get one as a file beside the weights."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from simloop.policies.checkpoints import CheckpointError, open_checkpoint
from simloop.policies.inference.loading import checkpoint_stats
from simloop.policies.presets import preset
from simloop.policies.presets.recorded import fitted, taken_over
from simloop.policies.transforms.normalization import EntryStats, norm_stats_to_json

G1 = """
preset = "pi05_base"
asset_id = "g1"
robot = "g1"
state_size = 54
action_size = 43
cameras = ["base_0_rgb"]
relative = [true, true]
replan_steps = 8
model.action_dim = 64
model.action_horizon = 16
"""


def stats(size: int) -> EntryStats:
    return EntryStats(np.zeros(size), np.ones(size), -np.ones(size), np.ones(size))


def folder(path, text=G1, config=None):
    path.mkdir(parents=True)
    save_file({"action_in_proj.bias": np.zeros(8, np.float32)}, path / "model.safetensors")
    for name, size in (("g1", 54), ("other", 8)):
        (path / "assets" / name).mkdir(parents=True)
        content = norm_stats_to_json({"state": stats(size), "actions": stats(min(size, 43))})
        (path / "assets" / name / "norm_stats.json").write_text(content)
    (path / "preset.toml").write_text(text)
    if config:
        (path / "config.json").write_text(json.dumps(config))
    return path


def fit(path, name="pi05_base"):
    opened = open_checkpoint(path)
    opened.require_preset(name)
    return fitted(preset(name), opened.options, str(path))


def test_a_robot_of_54_entries_takes_its_preset_from_the_file(tmp_path):
    chosen = fit(folder(tmp_path / "g1"))
    assert chosen.spec().robot == "g1"
    assert (chosen.state_size, chosen.action_size, chosen.replan_steps) == (54, 43, 8)
    assert (chosen.model.action_dim, chosen.model.action_horizon) == (64, 16)
    assert (chosen.cameras, chosen.relative) == (("base_0_rgb",), (True, True))
    assert taken_over(chosen)["robot"] == "g1", "what results are recorded with"
    assert len(checkpoint_stats(chosen, open_checkpoint(tmp_path / "g1"))["state"].mean) == 54


def test_the_preset_that_the_file_names_is_the_only_one_that_fits(tmp_path):
    with pytest.raises(CheckpointError, match="was written for preset 'pi05_base'; got 'pi05_libero'"):
        fit(folder(tmp_path / "g1"), "pi05_libero")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("state_size = 54", "54 entries do not fit into the 32 of the model"),
        ("state_sizes = 54", "states state_sizes = 54, which is no field of presets"),
        ("state_size = '54'", "states state_size = '54', which is no field of presets, or not of its type"),
        ("normalization = 'log'", "states normalization = 'log'"),
        ("model.width = 64", r"states model\.width = 64"),
        ("preset = 5", "preset is 5; wanted a text"),
        ("preset = ", r"preset\.toml is no TOML"),
        ("cameras = ['top']", "the model has no camera top"),
    ],
)
def test_what_it_cannot_state_is_refused_by_name(tmp_path, text, said):
    with pytest.raises(CheckpointError, match=said):
        fit(folder(tmp_path / "g1", text))


def test_a_contradiction_to_the_config_beside_it_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"states model\.action_horizon 16; its other files say 50"):
        fit(folder(tmp_path / "g1", config={"action_horizon": 50}))


def test_folders_named_after_another_config_of_openpi_are_refused(tmp_path):
    step = folder(tmp_path / "pi05_libero" / "mine" / "2000", "")
    assert fit(step, "pi05_libero").name == "pi05_libero"
    with pytest.raises(CheckpointError, match="name openpi's config 'pi05_libero'; got preset 'pi05_droid'"):
        fit(step, "pi05_droid")
    assert fit(folder(tmp_path / "pi05_my_lab" / "mine" / "2000", ""), "pi05_droid")
