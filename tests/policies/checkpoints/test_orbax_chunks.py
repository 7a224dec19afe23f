"""Arrays in a tensorstore database are read in pieces, however they were cut up and compressed."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore

from simloop.policies.checkpoints import orbax_chunks
from simloop.policies.checkpoints.orbax_chunks import OrbaxChunks

ZSTD = {"id": "zstd", "level": 1}


@pytest.fixture(autouse=True)
def _pieces_are_smaller_than_a_row(monkeypatch):
    monkeypatch.setattr(orbax_chunks, "PIECE_BYTES", 40)
    monkeypatch.setattr(orbax_chunks, "FETCH_BYTES", 16)


def write(folder, array, *, chunks, **metadata):
    database = {"driver": "ocdbt", "base": f"file://{folder}/"}
    spec = {
        "driver": "zarr",
        "kvstore": {**database, "path": "a/"},
        "metadata": {"shape": array.shape, "chunks": chunks, "dtype": array.dtype.str, **metadata},
    }
    if array.dtype == jnp.bfloat16:
        spec["metadata"]["dtype"] = "bfloat16"
    tensorstore.open(spec, create=True).result().write(array).result()
    return tensorstore.KvStore.open(database).result()


@pytest.mark.parametrize("compressor", [ZSTD, None], ids=["zstd", "plain"])
@pytest.mark.parametrize("chunks", [(5, 7, 11), (2, 3, 4), (1, 7, 11), (8, 8, 16)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_reads_every_entry_in_place(tmp_path, chunks, compressor, dtype):
    array = np.random.default_rng(0).standard_normal((5, 7, 11)).astype(dtype)
    write(tmp_path, array, chunks=chunks, compressor=compressor)
    for wanted in (np.float32, jnp.bfloat16):
        got = OrbaxChunks(tmp_path).read("a", array.shape, np.dtype(wanted))
        assert got is not None
        assert got.dtype == wanted
        np.testing.assert_array_equal(got, array.astype(wanted))


def test_reads_scalars(tmp_path):
    write(tmp_path, np.array(3.5, np.float32), chunks=(), compressor=ZSTD)
    assert OrbaxChunks(tmp_path).read("a", (), np.dtype(np.float32)) == 3.5


@pytest.mark.parametrize("how", [{"order": "F"}, {"compressor": {"id": "zlib", "level": 1}}], ids=str)
def test_leaves_unsupported_layouts_to_orbax(tmp_path, how):
    array = np.ones((4, 4), np.float32)
    write(tmp_path, array, chunks=(4, 4), **{"compressor": None, **how})
    chunks = OrbaxChunks(tmp_path)
    assert chunks.read("a", array.shape, array.dtype) is None
    assert chunks.read("elsewhere", array.shape, array.dtype) is None


def test_leaves_missing_chunks_to_orbax(tmp_path):
    array = np.ones((4, 4), np.float32)
    store = write(tmp_path, array, chunks=(2, 4), compressor=None)
    store.delete_range(tensorstore.KvStore.KeyRange("a/1", "a/2")).result()
    assert OrbaxChunks(tmp_path).read("a", array.shape, array.dtype) is None


def test_detects_chunks_of_the_wrong_length(tmp_path):
    array = np.arange(16, dtype=np.float32).reshape(4, 4)
    for compressor, (cut, says) in itertools.product(
        (None, ZSTD), ((-4, "ends before"), (4, "continues after"))
    ):
        folder = tmp_path / f"{compressor is None} {cut}"
        folder.mkdir()
        other = np.resize(array, (4 + cut // 4, 4))
        stored = write(folder / "other", other, chunks=other.shape, compressor=compressor)
        store = write(folder, array, chunks=(4, 4), compressor=compressor)
        store.write("a/0.0", stored.read("a/0.0").result().value).result()
        with pytest.raises(EOFError, match=says):
            OrbaxChunks(folder).read("a", array.shape, array.dtype)
