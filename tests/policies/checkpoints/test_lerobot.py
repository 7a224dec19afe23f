"""LeRobot's repositories, laid out as its trainer and its processors write them."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from simloop.policies.checkpoints import CheckpointError, CheckpointMismatch, open_checkpoint
from simloop.policies.checkpoints.torch_names import EXPERT_HEAD, LANGUAGE_HEAD, TOKEN_TABLE
from tests.helpers.tiny_parameters import expecting, tiny_parameters
from tests.helpers.torch_checkpoints import torch_tensors

GENERATOR = np.random.default_rng(3)
RANGES = {
    "mean": (-0.5, 0.5),
    "std": (0.1, 1),
    "q01": (-2, -1),
    "q99": (1, 2),
    "min": (-3, -2),
    "max": (2, 3),
}
STATS = {
    f"{key}.{stat}": GENERATOR.uniform(*ends, size).astype(np.float32)
    for key, size in (("observation.state", 8), ("action", 7))
    for stat, ends in RANGES.items()
}


def processor(name, file, modes, **step):
    features = {"action": {"type": "ACTION", "shape": [7]}}
    config = {"eps": 1e-8, "features": features, "norm_map": {"VISUAL": "IDENTITY", **modes}}
    first = {"registry_name": "to_batch_processor", "config": {}}
    return {"name": file, "steps": [first, {"registry_name": name, "config": config, **step}]}


def write_policy(folder, family, *, tensors=None, modes=None, stats=STATS, config=None, shards=1):
    """A policy as LeRobot saves it: every tensor below `model.`, the token table as the output head."""
    tensors = dict(torch_tensors(tiny_parameters(family)) if tensors is None else tensors)
    if TOKEN_TABLE in tensors and LANGUAGE_HEAD not in tensors:
        tensors[LANGUAGE_HEAD] = tensors.pop(TOKEN_TABLE)
    if family != "pi0_fast":
        tensors[EXPERT_HEAD] = np.ones((33, 10), np.float32)
    tensors = {f"model.{name}": tensor for name, tensor in tensors.items()}
    folder.mkdir(parents=True)
    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        weight_map = {
            name: f"model-{1 + i % shards:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(names)
        }
        for file in set(weight_map.values()):
            save_file({name: tensors[name] for name in names if weight_map[name] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps({"type": family, "chunk_size": 50} | (config or {})))
    modes = modes or {"STATE": "QUANTILES", "ACTION": "QUANTILES"}
    before, after = (
        "policy_preprocessor_step_1_normalizer_processor",
        "policy_postprocessor_step_1_unnormalizer_processor",
    )
    for file, name, state in (
        ("policy_preprocessor", "normalizer_processor", before),
        ("policy_postprocessor", "unnormalizer_processor", after),
    ):
        step = {"state_file": f"{state}.safetensors"} if stats else {}
        (folder / f"{file}.json").write_text(json.dumps(processor(name, file, modes, **step)))
        if stats:
            save_file(stats, folder / f"{state}.safetensors")
    return folder


@pytest.mark.parametrize("family", ["pi0", "pi05", "pi0_fast"])
@pytest.mark.parametrize("shards", [1, 3])
def test_reads_lerobot_policies_exactly(tmp_path, family, shards):
    flat = tiny_parameters(family)
    checkpoint = open_checkpoint(write_policy(tmp_path / "p", family, shards=shards))
    assert checkpoint.format == "lerobot"
    assert checkpoint.settings["chunk_size"] == 50
    loaded = checkpoint.load(expecting(flat), dtype=jnp.bfloat16)
    assert list(loaded) == list(flat)
    for name, array in flat.items():
        np.testing.assert_array_equal(np.asarray(loaded[name]), array.astype(jnp.bfloat16), err_msg=name)


def test_finds_the_policy_folder_of_lerobots_trainer(tmp_path):
    write_policy(tmp_path / "005000" / "pretrained_model", "pi0")
    assert open_checkpoint(tmp_path / "005000").format == "lerobot"


def test_mixed_dtypes_are_listed_as_stored(tmp_path):
    tensors = torch_tensors(tiny_parameters("pi0"))
    tensors = {
        name: tensor if "norm" in name else tensor.astype(jnp.bfloat16) for name, tensor in tensors.items()
    }
    checkpoint = open_checkpoint(write_policy(tmp_path / "p", "pi0", tensors=tensors))
    stored = {array.name.removeprefix("model."): array for array in checkpoint.arrays}
    assert stored["action_in_proj.weight"].dtype == jnp.bfloat16
    assert stored["action_in_proj.weight"].shape == (10, 7)
    assert stored["action_in_proj.weight"].model_name == "action_in_proj/kernel"
    assert stored["paligemma_with_expert.gemma_expert.model.norm.weight"].dtype == np.float32
    assert checkpoint.source.unread == (f"model.{EXPERT_HEAD}",)


@pytest.mark.parametrize(
    ("mode", "kind"), [("MEAN_STD", "z_score"), ("QUANTILES", "quantile"), ("IDENTITY", "none")]
)
def test_reads_recorded_normalization_and_statistics(tmp_path, mode, kind):
    checkpoint = open_checkpoint(write_policy(tmp_path / "p", "pi05", modes={"STATE": mode, "ACTION": mode}))
    assert checkpoint.normalization == kind
    for asset_id in (None, "physical-intelligence/libero"):  # LeRobot does not name the data set.
        stats = checkpoint.norm_stats(asset_id)
        for key, name in (("state", "observation.state"), ("actions", "action")):
            for field in ("mean", "std", "q01", "q99"):
                np.testing.assert_array_equal(getattr(stats[key], field), STATS[f"{name}.{field}"])


def test_rejects_a_preset_with_another_normalization(tmp_path):
    modes = {"STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
    checkpoint = open_checkpoint(write_policy(tmp_path / "p", "pi05", modes=modes))
    with pytest.raises(
        CheckpointError, match="trained with the normalization 'z_score'; the preset has 'quantile'"
    ):
        checkpoint.norm_stats(kind="quantile")


@pytest.mark.parametrize(
    "modes", [{"STATE": "MEAN_STD", "ACTION": "QUANTILES"}, {"STATE": "MIN_MAX", "ACTION": "MIN_MAX"}]
)
def test_names_unsupported_normalizations(tmp_path, modes):
    with pytest.raises(CheckpointError, match=f"states by {modes['STATE']} and actions by {modes['ACTION']}"):
        open_checkpoint(write_policy(tmp_path / "p", "pi05", modes=modes))


def test_rejects_statistics_without_recorded_quantiles(tmp_path):
    stats = {name: value for name, value in STATS.items() if "q" not in name.rpartition(".")[2]}
    checkpoint = open_checkpoint(write_policy(tmp_path / "p", "pi05", stats=stats))
    with pytest.raises(CheckpointError, match="needs q01 and q99"):
        checkpoint.norm_stats()


def test_reports_missing_statistics_of_a_base_model(tmp_path):
    checkpoint = open_checkpoint(write_policy(tmp_path / "p", "pi05", stats=None))
    with pytest.raises(CheckpointError, match="no normalization statistics"):
        checkpoint.norm_stats(kind="quantile")


def test_names_missing_statistics_files(tmp_path):
    folder = write_policy(tmp_path / "p", "pi05")
    next(folder.glob("policy_postprocessor_step_*")).unlink()
    with pytest.raises(CheckpointError, match=r"lacks policy_postprocessor_step_1.*\.safetensors"):
        open_checkpoint(folder).norm_stats()


def test_rejects_an_output_head_that_differs_from_the_token_table(tmp_path):
    tensors = torch_tensors(tiny_parameters("pi0_fast"))
    tensors[LANGUAGE_HEAD] = tensors[TOKEN_TABLE]
    flat = tiny_parameters("pi0_fast")
    loaded = open_checkpoint(write_policy(tmp_path / "same", "pi0_fast", tensors=tensors)).load(
        expecting(flat)
    )
    name = "PaliGemma/llm/embedder/input_embedding"
    np.testing.assert_array_equal(np.asarray(loaded[name]), flat[name])
    tensors[LANGUAGE_HEAD] = tensors[TOKEN_TABLE] + 1
    checkpoint = open_checkpoint(write_policy(tmp_path / "other", "pi0_fast", tensors=tensors))
    with pytest.raises(CheckpointError, match="differs from token table"):
        checkpoint.load(expecting(flat))


def test_ignores_the_output_head_of_flow_models(tmp_path):
    tensors = torch_tensors(tiny_parameters("pi0"))
    tensors[LANGUAGE_HEAD] = tensors[TOKEN_TABLE] + 1
    flat = tiny_parameters("pi0")
    loaded = open_checkpoint(write_policy(tmp_path / "p", "pi0", tensors=tensors)).load(expecting(flat))
    name = "PaliGemma/llm/embedder/input_embedding"
    np.testing.assert_array_equal(np.asarray(loaded[name]), flat[name])


def test_rejects_other_policy_types_and_changed_models(tmp_path):
    with pytest.raises(CheckpointError, match="type is 'act'; supported policies"):
        open_checkpoint(write_policy(tmp_path / "a", "pi0", config={"type": "act"}))
    with pytest.raises(CheckpointError, match="use_visual_memory is True"):
        open_checkpoint(write_policy(tmp_path / "b", "pi05", config={"use_visual_memory": True}))


def test_rejects_processors_without_a_normalization(tmp_path):
    folder = write_policy(tmp_path / "p", "pi05")
    file = folder / "policy_preprocessor.json"
    file.write_text(file.read_text().replace("norm_map", "other_map"))
    with pytest.raises(CheckpointError, match="does not record its normalization"):
        open_checkpoint(folder).norm_stats()


def test_reports_unknown_tensors(tmp_path):
    tensors = torch_tensors(tiny_parameters("pi05")) | {
        "proprio_history_proj.weight": np.ones((2, 2), np.float32)
    }
    checkpoint = open_checkpoint(write_policy(tmp_path / "p", "pi05", tensors=tensors))
    with pytest.raises(CheckpointMismatch, match=r"model\.proprio_history_proj\.weight \(2×2\): no model"):
        checkpoint.load(expecting(tiny_parameters("pi05")))


def test_rejects_two_names_of_one_tensor(tmp_path):
    flat = tiny_parameters("pi0")
    tensors = torch_tensors(flat)
    tensors |= {f"model.{name}": tensor for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="same array of the model"):
        open_checkpoint(tmp_path)


def test_ignores_statistics_among_the_weights(tmp_path):
    flat = tiny_parameters("pi0")
    tensors = torch_tensors(flat) | {"normalize_inputs.buffer_observation_state.mean": np.ones(8, np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"type": "pi0"}')
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.load(expecting(flat)).keys() == flat.keys()
    with pytest.raises(CheckpointError, match="migrate_policy_normalization"):
        checkpoint.norm_stats(kind="z_score")
