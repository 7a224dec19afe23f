"""Finding out what a folder is, and saying what it is not."""

import json
import pickle
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from simloop.policies.checkpoints import CheckpointError, open_checkpoint, save_checkpoint
from simloop.policies.transforms.normalization import EntryStats, save_norm_stats
from tests.helpers.tiny_parameters import tiny_parameters
from tests.helpers.torch_checkpoints import torch_tensors
from tests.policies.checkpoints.test_lerobot import write_policy
from tests.policies.checkpoints.test_openpi_orbax import write_step

STATS = {key: EntryStats(np.zeros(3), np.ones(3)) for key in ("state", "actions")}
ARRAYS = {"a": np.ones(2, np.float32)}


def test_detects_each_format(tmp_path):
    save_checkpoint(tmp_path / "own", ARRAYS, preset=None, normalization=None, config={}, norm_stats={})
    write_step(tmp_path / "orbax", ARRAYS, suffix=True)
    write_policy(tmp_path / "lerobot", "pi0_fast")
    (tmp_path / "torch").mkdir()
    save_file(torch_tensors(tiny_parameters("pi0")), tmp_path / "torch" / "model.safetensors")
    (tmp_path / "torch" / "config.json").write_text('{"action_dim": 7, "precision": "float32"}')
    found = {name: open_checkpoint(tmp_path / name).format for name in ("own", "orbax", "lerobot", "torch")}
    assert found == {
        "own": "simloop",
        "orbax": "openpi_orbax",
        "lerobot": "lerobot",
        "torch": "openpi_pytorch",
    }
    assert open_checkpoint(str(tmp_path / "torch")).settings["action_dim"] == 7


def test_finds_statistics_of_pytorch_conversions(tmp_path):
    save_file(torch_tensors(tiny_parameters("pi0")), tmp_path / "model.safetensors")
    save_norm_stats(tmp_path / "assets" / "trossen" / "norm_stats.json", STATS)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.statistics.asset_ids() == ("trossen",)
    assert checkpoint.norm_stats(kind="z_score")["actions"].std.tolist() == [1, 1, 1]


def test_opening_reads_no_array(tmp_path):
    save_file(torch_tensors(tiny_parameters("pi05")), tmp_path / "model.safetensors")
    file = tmp_path / "model.safetensors"
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    with file.open("r+b") as stream:  # The same file with a hole in place of the arrays.
        size = file.stat().st_size
        stream.truncate(header)
        stream.truncate(size)
    shapes = {array.name: array.shape for array in open_checkpoint(tmp_path).arrays}
    assert shapes["time_mlp_in.weight"] == (10, 10)


class Explosive:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "policy.pt", "model.ckpt"])
def test_rejects_pickles_without_opening_them(tmp_path, name, capsys):
    (tmp_path / name).write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(CheckpointError, match="never opened"):
        open_checkpoint(tmp_path)
    assert "unpickled" not in capsys.readouterr().out


def test_explains_why_a_folder_is_not_a_checkpoint(tmp_path):
    def complaint(folder):
        with pytest.raises(CheckpointError) as error:
            open_checkpoint(folder)
        return str(error.value)

    assert "download checkpoints from buckets" in complaint("gs://openpi-assets/checkpoints/pi0_base")
    (tmp_path / "notes.txt").write_text("")
    assert "is a file; name its folder" in complaint(tmp_path / "notes.txt")
    assert "it contains notes.txt" in complaint(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "it contains nothing" in complaint(tmp_path / "empty")
    write_step(tmp_path / "run" / "100", ARRAYS, suffix=True)
    shutil.copytree(tmp_path / "run" / "100", tmp_path / "run" / "200")
    assert "contains the checkpoints 100, 200" in complaint(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "100" / "params")
    assert "statistics (assets/) but no weights" in complaint(tmp_path / "run" / "100")
    (tmp_path / "peft").mkdir()
    save_file(ARRAYS, tmp_path / "peft" / "adapter_model.safetensors")
    assert "simloop merge-lora" in complaint(tmp_path / "peft")
    save_file(ARRAYS, tmp_path / "peft" / "model.safetensors")
    (tmp_path / "peft" / "config.json").write_text("{")
    assert "config.json is not JSON" in complaint(tmp_path / "peft")


def test_names_damaged_statistics_files(tmp_path):
    write_step(tmp_path / "1", ARRAYS, suffix=True)
    file = tmp_path / "1" / "assets" / "lab" / "arm" / "norm_stats.json"
    for content in (b'{"norm_stats": {"state"', b"\xff\xfe", b'{"norm_stats": {"state": {"mean": [1]}}}'):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"lab/arm/norm_stats\.json"):
            open_checkpoint(tmp_path / "1").norm_stats(kind="z_score")


def test_weights_hash_covers_the_bytes_of_other_formats(tmp_path):
    tensors = torch_tensors(tiny_parameters("pi0"))
    prints = []
    for name, step in (("a", 0.0), ("same", 0.0), ("other", 1e-6)):
        (tmp_path / name).mkdir()
        changed = tensors | {"state_proj.bias": tensors["state_proj.bias"] + np.float32(step)}
        save_file(changed, tmp_path / name / "model.safetensors")
        prints.append(open_checkpoint(tmp_path / name).weights_sha256())
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    "place", ["norm_stats.json", "assets/norm_stats.json", "assets/pi05_lab/lab/arm/norm_stats.json"]
)
def test_finds_statistics_beside_the_weights_and_below_the_name_of_a_config(tmp_path, place):
    write_step(tmp_path / "1", ARRAYS, suffix=True)
    found = tmp_path / "1" / "assets" / "lab" / "arm" / "norm_stats.json"
    moved = tmp_path / "1" / place
    content = found.read_text()
    shutil.rmtree(tmp_path / "1" / "assets")
    moved.parent.mkdir(parents=True, exist_ok=True)
    moved.write_text(content)
    stats = open_checkpoint(tmp_path / "1").norm_stats("lab/arm", kind="z_score")
    assert stats["actions"].std.tolist() == [1, 1, 1]


def test_names_the_keys_of_statistics_without_actions(tmp_path):
    write_step(tmp_path / "1", ARRAYS, suffix=True)
    file = tmp_path / "1" / "assets" / "lab" / "arm" / "norm_stats.json"
    file.write_text(file.read_text().replace('"actions"', '"action_joints"'))
    with pytest.raises(CheckpointError, match="statistics of actions: there are none; the keys are state"):
        open_checkpoint(tmp_path / "1").norm_stats(kind="z_score")


def test_takes_over_the_horizon_of_openpis_conversion_to_pytorch(tmp_path):
    save_file(torch_tensors(tiny_parameters("pi0")), tmp_path / "model.safetensors")
    config = {
        "action_dim": 32,
        "action_horizon": 15,
        "paligemma_variant": "gemma_2b",
        "precision": "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(tmp_path).options.chunk_steps == 15
    (tmp_path / "config.json").write_text(json.dumps(config | {"discrete_state": True}))
    with pytest.raises(CheckpointError, match=r"config\.json: discrete_state is True"):
        open_checkpoint(tmp_path)


def test_a_config_of_lerobot_without_a_type_is_refused_for_that(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"device": "cuda", "input_features": {}}')
    with pytest.raises(CheckpointError, match="type is None; supported policies of LeRobot are pi0"):
        open_checkpoint(tmp_path)
