"""Adapters of PEFT: what merging computes, and what is refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from simloop.policies.checkpoints import CheckpointError, open_checkpoint
from simloop.policies.checkpoints.peft import merge_adapters

Q, OUT = "model.expert.layers.0.self_attn.q_proj", "model.action_out_proj"
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "lora_dropout": 0.1}
DRAW = np.random.default_rng(0)
WEIGHTS = {
    f"{Q}.weight": DRAW.normal(size=(6, 4)).astype(np.float32),
    f"{OUT}.weight": DRAW.normal(size=(3, 6)).astype(np.float16),
    f"{OUT}.bias": np.zeros(3, np.float32),
}
A, B = DRAW.normal(size=(2, 4)).astype(np.float32), DRAW.normal(size=(6, 2)).astype(np.float32)
PREFIX = "base_model.model."
ADAPTERS = {f"{PREFIX}{Q}.lora_A.weight": A, f"{PREFIX}{Q}.lora_B.weight": B}


@pytest.fixture
def folders(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
    save_file(WEIGHTS, base / "model.safetensors")
    (base / "config.json").write_text(json.dumps({"type": "pi0", "chunk_size": 50}))
    save_file(ADAPTERS, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps(CONFIG))
    (adapter / "config.json").write_text(json.dumps({"type": "pi0", "chunk_size": 10, "use_peft": True}))
    return adapter, base, tmp_path / "out"


def change(adapter, **options):
    (adapter / "adapter_config.json").write_text(json.dumps(CONFIG | options))


@pytest.mark.parametrize(
    ("options", "scaling"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 4 / np.sqrt(2)),
        ({"alpha_pattern": {"v_proj": 8, "self_attn.q_proj": 6}}, 3.0),
        ({"alpha_pattern": {"^q_proj": 6}}, 2.0),
        ({"init_lora_weights": "gaussian", "use_dora": False}, 2.0),
    ],
)
def test_a_layer_gains_the_scaled_product_of_its_adapter(folders, options, scaling):
    adapter, base, out = folders
    change(adapter, **options)
    assert merge_adapters(adapter, base, out) == 1
    merged = load_file(out / "model.safetensors")
    wanted = WEIGHTS[f"{Q}.weight"] + scaling * (B @ A)
    np.testing.assert_allclose(merged[f"{Q}.weight"], wanted, rtol=1e-6)
    for name in (f"{OUT}.weight", f"{OUT}.bias"):
        np.testing.assert_array_equal(merged[name], WEIGHTS[name])


def test_layers_trained_in_full_replace_those_of_the_policy_in_its_dtype(folders):
    adapter, base, out = folders
    full = DRAW.normal(size=(3, 6)).astype(np.float32)
    save_file(ADAPTERS | {f"{PREFIX}{OUT}.weight": full}, adapter / "adapter_model.safetensors")
    assert merge_adapters(adapter, base, out) == 2
    np.testing.assert_array_equal(
        load_file(out / "model.safetensors")[f"{OUT}.weight"], full.astype(np.float16)
    )


def test_the_result_is_a_policy_with_the_settings_of_the_fine_tuned_one(folders):
    adapter, base, out = folders
    merge_adapters(adapter, base, out)
    assert open_checkpoint(out).options.chunk_steps == 10
    assert sorted(file.name for file in out.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"use_dora": True}, "use_dora is True"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is True"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'.*changed the weights of the policy"),
        ({"lora_alpha": None}, "lora_alpha is None; wanted a number"),
        ({"alpha_pattern": {"(a+)+$": 8}}, "alpha_pattern is"),
    ],
)
def test_options_that_change_the_sum_are_refused_by_name(folders, options, said):
    adapter, base, out = folders
    change(adapter, **options)
    with pytest.raises(CheckpointError, match=said):
        merge_adapters(adapter, base, out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["adapter", "base"]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({f"{PREFIX}{Q}.lora_magnitude_vector": A}, "has no weight .*lora_magnitude_vector"),
        ({f"{PREFIX}other.lora_A.weight": A}, "has no weight 'other.weight'"),
        ({f"{PREFIX}{Q}.lora_A.weight": A}, "has the shapes"),
        ({f"{PREFIX}{Q}.lora_A.weight": A.T, f"{PREFIX}{Q}.lora_B.weight": B}, "has the shapes"),
    ],
)
def test_adapters_of_another_policy_are_refused(folders, arrays, said):
    adapter, base, out = folders
    save_file(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        adapter / "adapter_model.safetensors",
    )
    with pytest.raises(CheckpointError, match=said):
        merge_adapters(adapter, base, out)
