"""Loading array by array: in which dtype, in which order, onto which devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from simloop.policies.checkpoints import open_checkpoint, save_checkpoint
from tests.helpers.fresh_python import run_python
from tests.helpers.tiny_parameters import expecting, tiny_parameters


def write(folder, arrays):
    save_checkpoint(folder, arrays, preset=None, normalization=None, config={}, norm_stats={})
    return open_checkpoint(folder)


def test_casts_arrays_to_expected_dtypes_by_default(tmp_path):
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


def test_reports_progress_after_every_array_the_largest_first(tmp_path):
    flat = tiny_parameters("pi0_fast")
    calls: list[tuple[int, int]] = []
    write(tmp_path / "c", flat).load(
        expecting(flat), dtype=jnp.bfloat16, on_progress=lambda done, total: calls.append((done, total))
    )
    done, totals = zip(*calls, strict=True)
    assert list(np.diff([0, *done])) == sorted((array.nbytes // 2 for array in flat.values()), reverse=True)
    assert set(totals) == {done[-1]}


def test_sharding_must_name_every_array(tmp_path):
    flat = {"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}
    here = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("x",)), PartitionSpec())
    checkpoint = write(tmp_path / "c", flat)
    assert checkpoint.load(expecting(flat), sharding={"a": here, "b": here})["a"].sharding == here
    assert checkpoint.load(expecting(flat), sharding=here)["b"].sharding == here
    with pytest.raises(ValueError, match="sharding lacks b"):
        checkpoint.load(expecting(flat), sharding={"a": here})


SHARDED = """
import sys, jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from simloop.policies.checkpoints import open_checkpoint
mesh = Mesh(np.array(jax.devices()), ("x",))
rows = NamedSharding(mesh, PartitionSpec("x"))
expected = {"a": jax.ShapeDtypeStruct((8, 3), np.float32)}
loaded = open_checkpoint(sys.argv[1]).load(expected, sharding=rows)["a"]
print(len(loaded.sharding.device_set), *sorted(shard.data.shape for shard in loaded.addressable_shards))
print(np.asarray(loaded).sum())
"""


def test_spreads_arrays_over_devices(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(8, 3)
    write(tmp_path / "c", {"a": array})
    printed = run_python(SHARDED, tmp_path / "c", devices=4)
    assert printed.split("\n")[:2] == ["4 (2, 3) (2, 3) (2, 3) (2, 3)", str(array.sum())]
