"""What does not fit a model is reported, all of it, before anything is read."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from simloop.policies.checkpoints import CheckpointMismatch, open_checkpoint, save_checkpoint
from simloop.policies.models import configs
from simloop.policies.models.parameters import shapes
from tests.helpers.tiny_parameters import expecting, tiny_config, tiny_parameters
from tests.helpers.torch_checkpoints import torch_tensors


def write(folder, arrays):
    save_checkpoint(folder, arrays, preset=None, normalization=None, config={}, norm_stats={})
    return open_checkpoint(folder)


def test_lists_every_difference_with_both_names(tmp_path):
    tensors = torch_tensors(tiny_parameters("pi0"))
    del tensors["action_in_proj.weight"]
    expert = "paligemma_with_expert.gemma_expert.model.layers"
    for layer in (1, 2):
        del tensors[f"{expert}.{layer}.self_attn.v_proj.weight"]
    tensors["state_proj.weight"] = np.zeros((10, 9), np.float32)
    tensors["mystery.weight"] = np.zeros(3, np.float32)
    tensors[f"{expert}.3.mlp.down_proj.weight"] = np.zeros((10, 18), np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    expected = expecting(tiny_parameters("pi0"))
    del expected["action_out_proj/bias"]
    with pytest.raises(CheckpointMismatch) as error:
        open_checkpoint(tmp_path).load(expected)
    assert set(error.value.missing) == {"action_in_proj/kernel", "PaliGemma/llm/layers/attn/kv_einsum_1/w"}
    assert error.value.misshapen == ("state_proj/kernel",)
    assert set(error.value.extra) == {
        "mystery.weight",
        "action_out_proj.bias",
        f"{expert}.3.mlp.down_proj.weight",
    }
    message = str(error.value)
    for line in (
        "2 arrays missing, 1 misshapen, 3 extra",
        "action_in_proj/kernel (7×10): the files have no 'action_in_proj.weight'",
        f"(3×2×2×10×6): the files have no '{expert}.1.self_attn.v_proj.weight' and 1 more",
        "state_proj/kernel (7×10): 'state_proj.weight' should be 10×7 in the files and is 10×9",
        "mystery.weight (3): no model of the family has such an array",
        "action_out_proj.bias (7): belongs to action_out_proj/bias, which the model does not have",
        "(10×18): belongs to PaliGemma/llm/layers/mlp_1/linear, which has fewer layers in the model",
    ):
        assert line in message


def test_rejects_quantized_weights(tmp_path):
    checkpoint = write(tmp_path / "c", {"a": np.ones(2, np.int8), "steps": np.ones(2, np.int32)})
    expected = {"a": jax.ShapeDtypeStruct((2,), jnp.bfloat16), "steps": jax.ShapeDtypeStruct((2,), jnp.int32)}
    with pytest.raises(CheckpointMismatch, match="'a' is stored as int8") as error:
        checkpoint.load(expected)
    assert error.value.misshapen == ("a",)


def test_reads_nothing_if_arrays_do_not_fit(tmp_path, monkeypatch):
    checkpoint = write(tmp_path / "c", {"a": np.zeros(2, np.float32)})
    read = []
    monkeypatch.setattr(type(checkpoint.source), "read", lambda self, *arguments: read.append(arguments))
    with pytest.raises(CheckpointMismatch):
        checkpoint.load(expecting({"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}))
    assert read == []


@pytest.mark.parametrize("family", ["pi0", "pi0_fast"])
def test_loads_expected_adapters_and_reports_others(tmp_path, family):
    config = tiny_config(family)
    lora = configs.LoraConfig(rank=2, alpha=2.0)
    adapted = dataclasses.replace(config, language=dataclasses.replace(config.language, lora=lora))
    with_adapters = shapes(adapted)
    arrays = {name: np.full(shape, 0.5, np.float32) for name, shape in with_adapters.items()}
    checkpoint = write(tmp_path / "c", arrays)
    assert checkpoint.load(expecting(arrays)).keys() == arrays.keys()
    base = expecting(tiny_parameters(family))
    with pytest.raises(
        CheckpointMismatch, match="LoRA adapters: those of this model would be merged"
    ) as error:
        checkpoint.load(base)
    assert set(error.value.extra) == arrays.keys() - base.keys()
    assert all("lora" in name for name in error.value.extra)
    assert checkpoint.load(base, may_drop=".*lora.*").keys() == base.keys()


def test_may_lack_allows_missing_adapters(tmp_path):
    flat = {"w": np.ones((2, 2), np.float32)}
    expected = expecting(flat | {"w_lora_a": np.ones((2, 1), np.float32)})
    checkpoint = write(tmp_path / "c", flat)
    assert checkpoint.load(expected, may_lack=".*lora.*").keys() == {"w"}
    with pytest.raises(CheckpointMismatch) as error:
        checkpoint.load(expected, may_lack="lora")  # The whole name has to match.
    assert error.value.missing == ("w_lora_a",)


def test_an_array_of_another_shape_is_left_out_where_the_model_may_lack_it_and_the_files_may_have_more(
    tmp_path,
):
    checkpoint = write(tmp_path / "c", {"same": np.ones(2, np.float32), "state": np.ones(4, np.float32)})
    expected = expecting({"same": np.ones(2, np.float32), "state": np.ones(7, np.float32)})
    assert checkpoint.load(expected, may_lack=".*", may_drop=".*").keys() == {"same"}
    for only in ({"may_lack": ".*"}, {"may_drop": ".*"}):
        with pytest.raises(CheckpointMismatch) as error:
            checkpoint.load(expected, **only)
        assert error.value.misshapen == ("state",)
