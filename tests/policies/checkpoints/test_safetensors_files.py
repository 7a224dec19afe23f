"""Reading safetensors files block by block, and refusing those that are not what they say."""

import hashlib
import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from simloop.policies.checkpoints import CheckpointError, safetensors_files
from simloop.policies.checkpoints.safetensors_files import SafetensorsFiles, read_header

ARRAYS = {
    "f64": np.linspace(0, 1, 11),
    "f32": np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4),
    "f16": np.linspace(0, 1, 5, dtype=np.float16),
    "bf16": np.linspace(0, 9, 21, dtype=jnp.bfloat16).reshape(7, 3),
    "i64": np.arange(3),
    "u8": np.arange(9, dtype=np.uint8),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 2), np.float32),
}


@pytest.fixture(params=[32, 4096])
def small_blocks(request, monkeypatch):
    """Blocks of a few entries, so that arrays take several of them."""
    monkeypatch.setattr(safetensors_files, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("small_blocks")
def test_reads_files_of_the_safetensors_library(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    files = SafetensorsFiles.in_folder(tmp_path)
    assert files.entries.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        read = files.read(name)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)
        assert files.sha256(name) == hashlib.sha256(array.tobytes()).hexdigest()


@pytest.mark.usefixtures("small_blocks")
def test_casting_by_blocks_equals_casting_at_once(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors")
    files = SafetensorsFiles.in_folder(tmp_path)
    for name in ("f64", "f32", "bf16", "scalar", "empty"):
        for dtype in (np.float32, jnp.bfloat16, np.float16):
            digest = hashlib.sha256()
            read = files.read(name, np.dtype(dtype), digest.update)
            np.testing.assert_array_equal(read, ARRAYS[name].astype(dtype))
            assert digest.hexdigest() == hashlib.sha256(ARRAYS[name].tobytes()).hexdigest()


def test_rejects_files_of_another_length(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(ARRAYS, file)
    sound = file.read_bytes()
    for damaged in (sound[:-1], sound[: len(sound) // 2], sound[:20], sound[:3], b"", sound + b"\0"):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            read_header(file)


def header(**arrays):
    text = json.dumps(arrays).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (header(a={"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}) + bytes(4), "takes 8 bytes by"),
        (header(a={"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}) + bytes(8), "should start at byte"),
        (header(a={"dtype": "Q7", "shape": [1], "data_offsets": [0, 4]}) + bytes(4), "unsupported dtype Q7"),
        (header(a={"dtype": "F32", "shape": [1]}) + bytes(4), "damaged header"),
        (header(a=[1]), "damaged header"),
        ((3).to_bytes(8, "little") + b"[1]", "damaged header"),
        ((4).to_bytes(8, "little") + b"\xff{}\n", "damaged header"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "truncated or not a safetensors file"),
    ],
)  # fmt: skip
def test_rejects_headers_that_contradict_the_file(tmp_path, content, complaint):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=complaint):
        read_header(tmp_path / "x.safetensors")


def test_detects_truncation_while_reading(tmp_path):
    save_file({"a": np.zeros(100, np.float32)}, tmp_path / "model.safetensors")
    files = SafetensorsFiles.in_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="was truncated"):
        files.read("a")


def write_shards(folder, weight_map):
    save_file({"a": np.zeros(2, np.float32), "b": np.ones(2, np.float32)}, folder / "one.safetensors")
    save_file({"c": np.full(2, 2, np.float32)}, folder / "two.safetensors")
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_reads_shards_as_one_file(tmp_path):
    write_shards(tmp_path, {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"})
    files = SafetensorsFiles.in_folder(tmp_path)
    assert [files.read(name)[0] for name in "abc"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("weight_map", "complaint"),
    [
        ({"a": "one.safetensors", "c": "three.safetensors"}, r"lacks the shards three\.safetensors"),
        ({"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}, "disagree about 1 arrays"),
        ({"a": "one.safetensors", "c": "two.safetensors"}, "disagree about 1 arrays, such as 'b'"),
        ({"a": "../one.safetensors"}, "not a plain file name"),
    ],
)
def test_rejects_an_index_that_contradicts_the_shards(tmp_path, weight_map, complaint):
    write_shards(tmp_path, weight_map)
    with pytest.raises(CheckpointError, match=complaint):
        SafetensorsFiles.in_folder(tmp_path)


def test_rejects_an_array_in_two_shards(tmp_path):
    for name in ("one", "two"):
        save_file({"a": np.zeros(2, np.float32)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match="'a' is both in"):
        SafetensorsFiles([tmp_path / "one.safetensors", tmp_path / "two.safetensors"])
