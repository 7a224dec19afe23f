"""Loading array by array: what fits, what is reported, where arrays go and what it costs."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console
from safetensors.numpy import save_file

from policies import configs
from policies.checkpoints import CheckpointMismatch, open_checkpoint, progress_bar, save_checkpoint
from policies.parameters import shapes
from tests.helpers.fresh_python import run_python
from tests.helpers.tiny_parameters import expecting, tiny_config, tiny_parameters
from tests.helpers.torch_checkpoints import torch_tensors


def write(folder, arrays):
    save_checkpoint(folder, arrays, preset=None, normalization=None, config={}, norm_stats={})
    return open_checkpoint(folder)


def test_everything_that_does_not_fit_is_listed_at_once_with_both_names(tmp_path):
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


def test_nothing_is_read_if_something_does_not_fit(tmp_path, monkeypatch):
    checkpoint = write(tmp_path / "c", {"a": np.zeros(2, np.float32)})
    read = []
    monkeypatch.setattr(type(checkpoint.source), "read", lambda self, *arguments: read.append(arguments))
    with pytest.raises(CheckpointMismatch):
        checkpoint.load(expecting({"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}))
    assert read == []


@pytest.mark.parametrize("family", ["pi0", "pi0_fast"])
def test_adapters_are_kept_if_expected_and_reported_if_not(tmp_path, family):
    config = tiny_config(family)
    lora = configs.LoraConfig(rank=2, alpha=2.0)
    adapted = dataclasses.replace(config, language=dataclasses.replace(config.language, lora=lora))
    with_adapters = shapes(adapted)
    arrays = {name: np.full(shape, 0.5, np.float32) for name, shape in with_adapters.items()}
    checkpoint = write(tmp_path / "c", arrays)
    assert checkpoint.load(expecting(arrays)).keys() == arrays.keys()
    base = expecting(tiny_parameters(family))
    with pytest.raises(CheckpointMismatch, match="LoRA variant of the model and merge") as error:
        checkpoint.load(base)
    assert set(error.value.extra) == arrays.keys() - base.keys()
    assert all("lora" in name for name in error.value.extra)
    assert checkpoint.load(base, may_drop=".*lora.*").keys() == base.keys()


def test_training_may_add_adapters_that_a_checkpoint_lacks(tmp_path):
    flat = {"w": np.ones((2, 2), np.float32)}
    expected = expecting(flat | {"w_lora_a": np.ones((2, 1), np.float32)})
    checkpoint = write(tmp_path / "c", flat)
    assert checkpoint.load(expected, may_lack=".*lora.*").keys() == {"w"}
    with pytest.raises(CheckpointMismatch) as error:
        checkpoint.load(expected, may_lack="lora")  # The whole name has to match.
    assert error.value.missing == ("w_lora_a",)


def test_each_array_takes_the_dtype_expected_of_it_unless_one_is_given(tmp_path):
    flat = {
        "frozen": np.linspace(0, 1, 9, dtype=np.float32),
        "trained": np.linspace(0, 1, 9, dtype=np.float32),
    }
    expected = {
        "frozen": jax.ShapeDtypeStruct((9,), jnp.bfloat16),
        "trained": jax.ShapeDtypeStruct((9,), jnp.float32),
    }
    checkpoint = write(tmp_path / "c", flat)
    loaded = checkpoint.load(expected)
    assert (loaded["frozen"].dtype, loaded["trained"].dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(np.asarray(loaded["frozen"]), flat["frozen"].astype(jnp.bfloat16))
    assert {array.dtype for array in checkpoint.load(expected, dtype=jnp.float16).values()} == {
        np.dtype(np.float16)
    }


def test_progress_is_told_after_every_array_the_largest_first(tmp_path):
    flat = tiny_parameters("pi0_fast")
    told = []
    write(tmp_path / "c", flat).load(expecting(flat), dtype=jnp.bfloat16, progress=told.append)
    assert {progress.name for progress in told} == flat.keys()
    sizes = np.diff([0, *(progress.bytes_done for progress in told)])
    assert list(sizes) == sorted((array.nbytes // 2 for array in flat.values()), reverse=True)
    assert {progress.bytes_total for progress in told} == {told[-1].bytes_done}


def test_the_bar_ends_full(tmp_path):
    flat = tiny_parameters("pi0_fast")
    screen = io.StringIO()
    with progress_bar("pi0-tiny", Console(file=screen, width=100)) as progress:
        write(tmp_path / "c", flat).load(expecting(flat), progress=progress)
    assert "pi0-tiny" in screen.getvalue()
    total = sum(array.nbytes for array in flat.values())
    assert f"{total / 1024:.1f}/{total / 1024:.1f} KiB" in screen.getvalue()


def test_a_sharding_must_name_every_array(tmp_path):
    flat = {"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}
    here = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("x",)), PartitionSpec())
    checkpoint = write(tmp_path / "c", flat)
    assert checkpoint.load(expecting(flat), sharding={"a": here, "b": here})["a"].sharding == here
    assert checkpoint.load(expecting(flat), sharding=here)["b"].sharding == here
    with pytest.raises(ValueError, match="no placement for b"):
        checkpoint.load(expecting(flat), sharding={"a": here})


SHARDED = """
import sys, jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from policies.checkpoints import open_checkpoint
mesh = Mesh(np.array(jax.devices()), ("x",))
rows = NamedSharding(mesh, PartitionSpec("x"))
expected = {"a": jax.ShapeDtypeStruct((8, 3), np.float32)}
loaded = open_checkpoint(sys.argv[1]).load(expected, sharding=rows)["a"]
print(len(loaded.sharding.device_set), *sorted(shard.data.shape for shard in loaded.addressable_shards))
print(np.asarray(loaded).sum())
"""


def test_arrays_are_spread_over_devices_when_asked(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(8, 3)
    write(tmp_path / "c", {"a": array})
    printed = run_python(SHARDED, tmp_path / "c", XLA_FLAGS="--xla_force_host_platform_device_count=4")
    assert printed.split("\n")[:2] == ["4 (2, 3) (2, 3) (2, 3) (2, 3)", str(array.sum())]
