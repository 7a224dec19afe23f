"""simloop's own checkpoints: safetensors shards and a manifest with a hash of every array.

    <folder>/simloop_checkpoint.json           the manifest
    <folder>/weights-00001-of-00003.safetensors
    <folder>/assets/<asset id>/norm_stats.json

A folder appears under its name only when it is complete. Every array is hashed again while it is
loaded, so that a byte that has changed anywhere is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from simloop.policies.checkpoints.array_source import ArraySource, CheckpointError, Shape, StoredArray
from simloop.policies.checkpoints.checkpoint import Checkpoint
from simloop.policies.checkpoints.norm_stats_files import ASSETS, FILE_NAME, AssetsFolder
from simloop.policies.checkpoints.safetensors_files import DTYPES, SafetensorsFiles, file_beside
from simloop.policies.files.manifest import MANIFEST
from simloop.policies.transforms.normalization import NormalizationKind, NormStats, norm_stats_to_json

SHARD_BYTES = 2 << 30  # Small enough for file systems and transfers that dislike huge files.
HEADER_ALIGNMENT = 8  # The format asks that arrays start at a multiple of it.


class ArrayEntry(BaseModel):
    """What the manifest says about one array."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    shape: tuple[int, ...]
    dtype: str
    """In the spelling of safetensors, such as `BF16`."""
    sha256: str


class FileEntry(BaseModel):
    """What the manifest says about one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """Everything that a checkpoint holds besides the arrays themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["simloop-checkpoint"] = "simloop-checkpoint"
    version: Literal[1] = 1
    preset: str | None
    normalization: NormalizationKind | None
    config: dict[str, JsonValue]
    arrays: dict[str, ArrayEntry]
    files: dict[str, FileEntry]
    """By path below the folder: shards and statistics."""
    manifest_sha256: str = ""
    """Hash of this manifest without this entry."""

    def checksum(self) -> str:
        """What `manifest_sha256` should be."""
        payload = self.model_dump(mode="json", exclude={"manifest_sha256"})
        return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()

    def weights_sha256(self) -> str:
        """Fingerprint of names, shapes, dtypes and values, whatever the shards."""
        described = {name: [*entry.shape, entry.dtype, entry.sha256] for name, entry in self.arrays.items()}
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


class NativeSource(ArraySource):
    """The shards of one of our checkpoints, each array held against its hash."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._arrays = manifest.arrays
        shards = {entry.file for entry in manifest.arrays.values()}
        self._files = SafetensorsFiles([file_beside(folder / MANIFEST, name) for name in sorted(shards)])
        found = {
            name: (entry.file.name, entry.shape, entry.dtype) for name, entry in self._files.entries.items()
        }
        recorded = {
            name: (entry.file, entry.shape, DTYPES.get(entry.dtype)) for name, entry in self._arrays.items()
        }
        if found != recorded:
            wrong = sorted(
                name for name in found.keys() | recorded.keys() if found.get(name) != recorded.get(name)
            )
            raise CheckpointError(
                f"{folder}: the shards do not hold what {MANIFEST} records for {', '.join(wrong)}. Copy the "
                "whole folder again."
            )
        self.stored = tuple(
            StoredArray(name, entry.shape, entry.dtype, name) for name, entry in self._files.entries.items()
        )

    def parts(self, name: str, shape: Shape) -> Mapping[str, Shape]:
        return {name: shape}

    def read(self, name: str, shape: Shape, dtype: np.dtype) -> np.ndarray:
        digest = hashlib.sha256()
        array = self._files.read(name, dtype, digest.update)
        if digest.hexdigest() != self._arrays[name].sha256:
            raise CheckpointError(
                f"{self._files.entries[name].file}: array {name!r} is not what was written (its hash "
                "differs). The file is damaged; copy it again."
            )
        return array

    def files(self) -> tuple[Path, ...]:
        return self._files.files


def open_own(folder: Path) -> Checkpoint:
    """Open a folder that `save_checkpoint` wrote.

    Raises:
      CheckpointError: If the manifest or a file is not as written.
    """
    file = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "its text"
        raise CheckpointError(
            f"{file} is damaged or was written by another version of simloop: {place}: {first['msg']}."
        ) from error
    if manifest.checksum() != manifest.manifest_sha256:
        raise CheckpointError(f"{file} has been changed since it was written. Copy it again.")
    for name, entry in manifest.files.items():
        size = (folder / name).stat().st_size if (folder / name).is_file() else None
        if size != entry.bytes:
            found = "is absent" if size is None else f"has {size} bytes instead of {entry.bytes}"
            raise CheckpointError(f"{folder / name} {found}. Copy the whole folder again.")
    return Checkpoint(
        path=folder,
        format="simloop",
        source=NativeSource(folder, manifest),
        statistics=AssetsFolder(
            folder,
            manifest.normalization,
            {name: entry.sha256 for name, entry in manifest.files.items() if name.startswith(f"{ASSETS}/")},
        ),
        settings=manifest.config,
        preset=manifest.preset,
        recorded_sha256=manifest.weights_sha256(),
    )


def save_checkpoint(
    folder: Path,
    arrays: Mapping[str, jax.Array | np.ndarray],
    *,
    preset: str | None,
    normalization: NormalizationKind | None,
    config: Mapping[str, JsonValue],
    norm_stats: Mapping[str, NormStats],
    files: Mapping[str, bytes] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a checkpoint. Arrays are fetched from their devices one at a time, in their own dtype.

    Args:
      folder: Where to; must not exist. It appears only when everything has reached the disk.
      arrays: Parameters by their names in the model.
      preset: Name of the preset that the weights belong to.
      normalization: How states and actions were normalised in training.
      config: Description of the model, kept as it is.
      norm_stats: Statistics by asset id.
      files: Contents of other files, such as tokenizers, by path below the folder.
      shard_bytes: Largest file; an array that is larger gets a file of its own.

    Raises:
      CheckpointError: If the folder exists, or an array has a dtype that the format has no code for.
    """
    if folder.exists():
        raise CheckpointError(f"{folder} exists; a checkpoint is never overwritten. Choose another folder.")
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        entries, written = _write_shards(partial, arrays, shard_bytes)
        beside = dict(files or {})
        for asset_id, stats in norm_stats.items():
            beside[f"{ASSETS}/{asset_id}/{FILE_NAME}"] = norm_stats_to_json(stats).encode()
        for name, content in beside.items():
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
    codes = {dtype: code for code, dtype in DTYPES.items()}
    for name, array in arrays.items():
        if np.dtype(array.dtype) not in codes:
            raise CheckpointError(
                f"{name} has the dtype {array.dtype}, which safetensors files here cannot hold. Use one of "
                f"{', '.join(str(dtype) for dtype in codes)}."
            )
    shards = _shards(arrays, shard_bytes)
    entries: dict[str, ArrayEntry] = {}
    files: dict[str, FileEntry] = {}
    for number, names in enumerate(shards, start=1):
        shard = f"weights-{number:05d}-of-{len(shards):05d}.safetensors"
        header, begin = {}, 0
        for name in names:
            shape, code = tuple(arrays[name].shape), codes[np.dtype(arrays[name].dtype)]
            header[name] = {
                "dtype": code,
                "shape": shape,
                "data_offsets": (begin, begin + arrays[name].nbytes),
            }
            begin += arrays[name].nbytes
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % HEADER_ALIGNMENT)
        with _HashedFile(folder / shard) as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                raw = np.asarray(arrays[name]).reshape(-1).view(np.uint8).data
                file.write(raw)
                shape, code = tuple(arrays[name].shape), codes[np.dtype(arrays[name].dtype)]
                entries[name] = ArrayEntry(
                    file=shard, shape=shape, dtype=code, sha256=hashlib.sha256(raw).hexdigest()
                )
        files[shard] = file.entry()
    return entries, files


def _shards(arrays: Mapping[str, jax.Array | np.ndarray], shard_bytes: int) -> list[list[str]]:
    """Names by file: arrays in order of size, filled into one file after the other.

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
    """A new file that is hashed as it is written and has reached the disk when it is closed."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("xb")
        self._digest = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self._digest.update(data)

    def entry(self) -> FileEntry:
        """Size and hash of everything written."""
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
