"""Our own checkpoints: written, read again, and refused when anything has changed."""

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from simloop.policies.checkpoints import CheckpointError, native_writer, open_checkpoint, save_checkpoint
from simloop.policies.checkpoints.native import MANIFEST
from simloop.policies.checkpoints.safetensors_files import SafetensorsFiles
from simloop.policies.transforms.image_statistics import ENTRIES, fit_image_stats
from simloop.policies.transforms.normalization import EntryStats
from tests.helpers.tiny_parameters import expecting, tiny_parameters

STATS = {
    "state": EntryStats(np.arange(4.0), np.ones(4), -np.ones(4), np.ones(4)),
    "actions": EntryStats(np.zeros(3), np.full(3, 0.1), np.full(3, -0.3), np.full(3, 0.2)),
}
CONFIG = {"family": "pi0", "sizes": [1, 2.5, None]}


def write(folder, arrays, **options):
    options = {"preset": "pi0-tiny", "normalization": "quantile", "norm_stats": {"lab/arm": STATS}} | options
    save_checkpoint(folder, arrays, config=CONFIG, **options)
    return folder


@pytest.mark.parametrize("shard_bytes", [1, 20_000, 1 << 30])
def test_reads_back_what_it_writes(tmp_path, shard_bytes):
    flat = tiny_parameters("pi05")
    checkpoint = open_checkpoint(write(tmp_path / "c", flat, shard_bytes=shard_bytes))
    loaded = checkpoint.load(expecting(flat))
    assert list(loaded) == list(flat)
    for name, array in flat.items():
        np.testing.assert_array_equal(np.asarray(loaded[name]), array)
    assert (checkpoint.format, checkpoint.preset, checkpoint.normalization) == (
        "simloop",
        "pi0-tiny",
        "quantile",
    )
    assert checkpoint.settings == CONFIG
    stats = checkpoint.norm_stats("lab/arm", kind="quantile")
    for key, entry in STATS.items():
        for field in ("mean", "std", "q01", "q99"):
            np.testing.assert_array_equal(getattr(stats[key], field), getattr(entry, field))


def test_keeps_every_dtype_and_rank(tmp_path):
    arrays = {
        "float32": jnp.linspace(0, 1, 7),
        "bfloat16": jnp.linspace(0, 1, 5, dtype=jnp.bfloat16).reshape(5, 1),
        "float16": np.linspace(0, 1, 3, dtype=np.float16),
        "int32": np.arange(6, dtype=np.int32).reshape(1, 2, 3),
        "bool": np.array([True, False]),
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }
    loaded = open_checkpoint(write(tmp_path / "c", arrays)).load(expecting(arrays))
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(np.asarray(loaded[name]), np.asarray(array))


def test_shards_are_ordinary_safetensors_files(tmp_path):
    flat = tiny_parameters("pi0_fast") | {"half": np.arange(3, dtype=jnp.bfloat16)}
    folder = write(tmp_path / "c", flat, shard_bytes=30_000)
    read = {name: array for file in folder.glob("*.safetensors") for name, array in load_file(file).items()}
    assert read.keys() == flat.keys()
    for name, array in flat.items():
        np.testing.assert_array_equal(read[name], array)


def test_arrays_in_any_memory_order_are_written_as_they_are(tmp_path):
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
    arrays = {"transposed": numbers.T, "fortran": np.asfortranarray(numbers), "strided": numbers[:, ::2]}
    (file,) = write(tmp_path / "c", arrays).glob("*.safetensors")
    for name, array in load_file(file).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_an_array_that_the_disk_changes_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(SafetensorsFiles, "sha256", lambda self, name: "0" * 64)
    with pytest.raises(CheckpointError, match="a was not written as it is"):
        write(tmp_path / "c", {"a": np.zeros(3, np.float32)})
    assert not (tmp_path / "c").exists()


def test_shards_exceed_their_size_for_single_arrays_only(tmp_path):
    flat = tiny_parameters("pi0")
    folder = write(tmp_path / "c", flat, shard_bytes=20_000)
    files = list(folder.glob("*.safetensors"))
    assert len(files) > 3
    for file in files:
        arrays = load_file(file)
        assert len(arrays) == 1 or sum(array.nbytes for array in arrays.values()) <= 20_000


def test_weights_hash_is_independent_of_the_shards(tmp_path):
    flat = tiny_parameters("pi0")
    one = open_checkpoint(write(tmp_path / "one", flat)).weights_sha256()
    many = open_checkpoint(write(tmp_path / "many", flat, shard_bytes=1, preset=None)).weights_sha256()
    flat["state_proj/bias"] = flat["state_proj/bias"] + np.float32(1e-6)
    other = open_checkpoint(write(tmp_path / "other", flat)).weights_sha256()
    assert one == many != other


def image_stats():
    images = np.random.default_rng(0).random((8, ENTRIES))
    return {"base_0_rgb": fit_image_stats(images[:4], images[4:])}


def test_statistics_of_images_are_optional_and_read_back_by_robot(tmp_path):
    arrays = {"a": np.zeros(3, np.float32)}
    assert open_checkpoint(write(tmp_path / "old", arrays)).image_stats() == {}
    stats = image_stats()
    new = open_checkpoint(write(tmp_path / "new", arrays, image_stats={"lab/arm": stats}))
    read = new.image_stats("lab/arm")["base_0_rgb"]
    np.testing.assert_allclose(read.mean, stats["base_0_rgb"].mean, rtol=1e-4)
    with pytest.raises(CheckpointError, match="got asset_id 'another'"):
        new.image_stats("another")


def read_everything(folder, flat):
    checkpoint = open_checkpoint(folder)
    checkpoint.load(expecting(flat))
    checkpoint.norm_stats()
    checkpoint.image_stats()


def test_detects_any_flipped_byte(tmp_path):
    flat = {"a": np.arange(12, dtype=np.float32), "b": np.arange(5, dtype=np.float32)}
    folder = write(tmp_path / "c", flat, image_stats={"lab/arm": image_stats()})
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        sound = file.read_bytes()
        # Spaces between the entries of a manifest or header mean nothing, so every byte that counts.
        for position in range(0, len(sound), max(1, len(sound) // 60)):
            damaged = bytearray(sound)
            damaged[position] ^= 0x10
            if not _differs(file, sound, bytes(damaged)):
                continue
            file.write_bytes(bytes(damaged))
            with pytest.raises(CheckpointError):
                read_everything(folder, flat)
        file.write_bytes(sound)
    read_everything(folder, flat)


def _differs(file, sound, damaged):
    """Whether the damage changes what the file says; JSON that parses to the same does not."""
    if file.name != MANIFEST:
        return True
    try:
        return json.loads(damaged) != json.loads(sound)
    except ValueError:
        return True


def test_rejects_a_truncated_file_on_opening(tmp_path):
    folder = write(tmp_path / "c", tiny_parameters("pi0"))
    (file,) = folder.glob("*.safetensors")
    sound = file.read_bytes()
    for length in (0, 7, 100, len(sound) // 2, len(sound) - 1):
        file.write_bytes(sound[:length])
        with pytest.raises(CheckpointError, match=file.name):
            open_checkpoint(folder)


def test_names_a_missing_file(tmp_path):
    folder = write(tmp_path / "c", tiny_parameters("pi0"), shard_bytes=20_000)
    next(folder.glob("weights-00002-*")).unlink()
    with pytest.raises(CheckpointError, match=r"weights-00002.* is missing"):
        open_checkpoint(folder)


def test_rejects_an_edited_manifest(tmp_path):
    folder = write(tmp_path / "c", {"a": np.zeros(3, np.float32)})
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["normalization"] = "z_score"
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="changed since it was written"):
        open_checkpoint(folder)


def test_rejects_manifests_of_other_versions(tmp_path):
    folder = write(tmp_path / "c", {"a": np.zeros(3, np.float32)})
    sound = json.loads((folder / MANIFEST).read_text())
    for change in ({"version": 2}, {"surprise": 1}):
        (folder / MANIFEST).write_text(json.dumps(sound | change))
        with pytest.raises(CheckpointError, match="another version of simloop"):
            open_checkpoint(folder)


def test_removes_partial_files_after_an_interrupted_write(tmp_path, monkeypatch):
    synced = []

    def full_disk(descriptor):
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError("No space left on device")

    monkeypatch.setattr(native_writer.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "c", tiny_parameters("pi0"), shard_bytes=20_000)
    assert list(tmp_path.iterdir()) == []


def test_never_overwrites_a_checkpoint(tmp_path):
    folder = write(tmp_path / "c", {"a": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointError, match="never overwritten"):
        write(folder, {"a": np.ones(3, np.float32)})
    assert not np.any(open_checkpoint(folder).load({"a": jax.ShapeDtypeStruct((3,), np.float32)})["a"])


def test_rejects_asset_ids_outside_the_folder(tmp_path):
    with pytest.raises(CheckpointError, match="Asset ids"):
        write(tmp_path / "c", {"a": np.zeros(3, np.float32)}, norm_stats={"../../x": STATS})
    assert list(tmp_path.iterdir()) == []


def test_rejects_unsupported_dtypes_before_writing(tmp_path):
    with pytest.raises(CheckpointError, match="complex64"):
        write(tmp_path / "c", {"a": np.zeros(3, np.complex64)})
    assert list(tmp_path.iterdir()) == []


def test_header_starts_with_its_length(tmp_path):
    folder = write(tmp_path / "c", {"a": np.arange(3, dtype=np.float32)})
    (file,) = folder.glob("*.safetensors")
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length])["a"]["data_offsets"] == [0, 12]
    assert content[8 + length :] == np.arange(3, dtype="<f4").tobytes()
