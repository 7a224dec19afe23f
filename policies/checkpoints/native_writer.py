"""Write simloop's own checkpoints, so that a folder appears under its name only when it is complete."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from pydantic import JsonValue

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.checkpoints.native import ArrayEntry, FileEntry, Manifest
from simloop.policies.checkpoints.norm_stats_files import ASSETS, FILE_NAME
from simloop.policies.checkpoints.safetensors_files import DTYPES, SafetensorsFiles
from simloop.policies.files.manifest import MANIFEST
from simloop.policies.transforms import image_statistics
from simloop.policies.transforms.image_statistics import ImageStats, image_stats_to_json
from simloop.policies.transforms.normalization import NormalizationKind, NormStats, norm_stats_to_json

SHARD_BYTES = 2 << 30  # Small enough for file systems and transfers that limit the size of files.
HEADER_ALIGNMENT = 8  # Of the start of the arrays, by the format.
CODES = {dtype: code for code, dtype in DTYPES.items()}


def save_checkpoint(
    folder: Path,
    arrays: Mapping[str, jax.Array | np.ndarray],
    *,
    preset: str | None,
    normalization: NormalizationKind | None,
    config: Mapping[str, JsonValue],
    norm_stats: Mapping[str, NormStats],
    image_stats: Mapping[str, Mapping[str, ImageStats]] | None = None,
    files: Mapping[str, bytes] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a checkpoint, fetching arrays from their devices one at a time, in their own dtype.

    Args:
      folder: Folder to write; must not exist. It appears when all files are on disk.
      arrays: Parameters by their names in the model.
      preset: Name of the preset of the weights.
      normalization: Normalization of states and actions in training.
      config: Settings, returned as `Checkpoint.settings`.
      norm_stats: Statistics by asset id.
      image_stats: Statistics of training images by asset id and camera.
      files: Contents of additional files, such as tokenizers, by path below the folder.
      shard_bytes: Largest size of a shard; a larger array gets its own.

    Raises:
      CheckpointError: If the folder exists, or an array has an unsupported dtype.
    """
    if folder.exists():
        raise CheckpointError(f"{folder} exists; a checkpoint is never overwritten. Choose another folder.")
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        entries, written = _write_shards(partial, arrays, shard_bytes)
        others = dict(files or {})
        for asset_id, stats in norm_stats.items():
            others[f"{ASSETS}/{asset_id}/{FILE_NAME}"] = norm_stats_to_json(stats).encode()
        for asset_id, of_images in (image_stats or {}).items():
            file_name = f"{ASSETS}/{asset_id}/{image_statistics.FILE_NAME}"
            others[file_name] = image_stats_to_json(of_images).encode()
        for name, content in others.items():
            if not (partial / name).resolve().is_relative_to(partial.resolve()):
                raise CheckpointError(f"Asset ids and files are paths inside the checkpoint; got {name!r}.")
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            with _HashedFile(partial / name) as file:
                file.write(content)
            written[name] = file.entry()
        manifest = Manifest(
            preset=preset, normalization=normalization, config=dict(config), arrays=entries, files=written
        )
        manifest = manifest.model_copy(update={"manifest_sha256": manifest.checksum()})
        with _HashedFile(partial / MANIFEST) as file:
            file.write(manifest.model_dump_json(indent=1).encode())
        partial.rename(folder)
        _sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_shards(
    folder: Path, arrays: Mapping[str, jax.Array | np.ndarray], shard_bytes: int
) -> tuple[dict[str, ArrayEntry], dict[str, FileEntry]]:
    for name, array in arrays.items():
        if np.dtype(array.dtype) not in CODES:
            raise CheckpointError(
                f"{name} has the dtype {array.dtype}, which checkpoints cannot hold. Use one of "
                f"{', '.join(str(dtype) for dtype in CODES)}."
            )
    shards = _shards(arrays, shard_bytes)
    entries: dict[str, ArrayEntry] = {}
    files: dict[str, FileEntry] = {}
    for number, names in enumerate(shards, start=1):
        shard = f"weights-{number:05d}-of-{len(shards):05d}.safetensors"
        with _HashedFile(folder / shard) as file:
            file.write(_header({name: arrays[name] for name in names}))
            for name in names:
                array = arrays[name]
                raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                file.write(raw)
                entries[name] = ArrayEntry(
                    file=shard,
                    shape=tuple(array.shape),
                    dtype=CODES[np.dtype(array.dtype)],
                    sha256=hashlib.sha256(raw).hexdigest(),
                )
        files[shard] = file.entry()
    _require_written([folder / shard for shard in files], entries)
    return entries, files


def _require_written(shards: list[Path], entries: Mapping[str, ArrayEntry]) -> None:
    """Read every array back, and compare it with the hash of what was written."""
    written = SafetensorsFiles(shards)
    for name, entry in entries.items():
        if written.sha256(name) != entry.sha256:
            raise CheckpointError(
                f"{entry.file}: {name} was not written as it is. Check the disk, and write it again."
            )


def _header(arrays: Mapping[str, jax.Array | np.ndarray]) -> bytes:
    """Length and text of the safetensors header of one shard."""
    header, begin = {}, 0
    for name, array in arrays.items():
        end = begin + array.nbytes
        code = CODES[np.dtype(array.dtype)]
        header[name] = {"dtype": code, "shape": tuple(array.shape), "data_offsets": (begin, end)}
        begin = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _shards(arrays: Mapping[str, jax.Array | np.ndarray], shard_bytes: int) -> list[list[str]]:
    """Names of the arrays of each shard, filled in order of size.

    Wide dtypes come first, so that every array starts at a multiple of its item size.
    """
    shards: list[list[str]] = []
    room = 0

    def wide_and_large_first(name: str) -> tuple[int, int, str]:
        array = arrays[name]
        return -np.dtype(array.dtype).itemsize, -array.nbytes, name

    for name in sorted(arrays, key=wide_and_large_first):
        if not shards or arrays[name].nbytes > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= arrays[name].nbytes
    return shards


class _HashedFile:
    """A new file that is hashed while it is written, and synced to disk when it is closed."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("xb")
        self._digest = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self._digest.update(data)

    def entry(self) -> FileEntry:
        """Size and hash of the file."""
        return FileEntry(bytes=self._size, sha256=self._digest.hexdigest())

    def __enter__(self) -> _HashedFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._size = self._stream.tell()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
