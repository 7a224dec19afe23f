"""Read simloop's own checkpoints: safetensors shards and a manifest with a hash of every array.

    <folder>/simloop_checkpoint.json           the manifest
    <folder>/weights-00001-of-00003.safetensors
    <folder>/assets/<asset id>/norm_stats.json     of states and actions
    <folder>/assets/<asset id>/image_stats.json    of training images (optional)

Every array is hashed while it is loaded, so that any changed byte is detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from simloop.policies.checkpoints.array_source import ArraySource, CheckpointError, Shape, StoredArray
from simloop.policies.checkpoints.checkpoint import Checkpoint
from simloop.policies.checkpoints.norm_stats_files import ASSETS, AssetsFolder
from simloop.policies.checkpoints.recorded_options import OPTIONS, JsonFile, RecordedOptions
from simloop.policies.checkpoints.safetensors_files import DTYPES, SafetensorsFiles, file_beside
from simloop.policies.files.manifest import MANIFEST
from simloop.policies.transforms.normalization import NormalizationKind
from simloop.untrusted import MAX_JSON_BYTES, inside, read_bytes


class ArrayEntry(BaseModel):
    """Entry of an array in the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    shape: tuple[int, ...]
    dtype: str
    """Safetensors code, such as `BF16`."""
    sha256: str


class FileEntry(BaseModel):
    """Entry of a file in the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """Contents of a checkpoint besides the arrays themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["simloop-checkpoint"] = "simloop-checkpoint"
    version: Literal[1] = 1
    preset: str | None
    normalization: NormalizationKind | None
    config: dict[str, JsonValue]
    arrays: dict[str, ArrayEntry]
    files: dict[str, FileEntry]
    """By path below the folder: shards, statistics and tokenizers."""
    manifest_sha256: str = ""
    """Hash of the manifest without this entry."""

    def checksum(self) -> str:
        """Expected value of `manifest_sha256`."""
        payload = self.model_dump(mode="json", exclude={"manifest_sha256"})
        return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()

    def weights_sha256(self) -> str:
        """Hash of names, shapes, dtypes and values, independent of the shards."""
        described = {name: [*entry.shape, entry.dtype, entry.sha256] for name, entry in self.arrays.items()}
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


class NativeSource(ArraySource):
    """Shards of a checkpoint, whose arrays are compared with their recorded hashes."""

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
                f"{folder}: the shards differ from {MANIFEST} in {', '.join(wrong)}. Copy the whole folder again."
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
                f"{self._files.entries[name].file}: array {name!r} has another hash than "
                "recorded. The file is damaged; copy it again."
            )
        return array

    def files(self) -> tuple[Path, ...]:
        return self._files.files


def open_own(folder: Path) -> Checkpoint:
    """Open a folder that `save_checkpoint` wrote.

    Raises:
      CheckpointError: If the manifest or a file is damaged.
    """
    file = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(read_bytes(file, MAX_JSON_BYTES, error=CheckpointError))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "its text"
        raise CheckpointError(
            f"{file} is damaged or was written by another version of simloop: {place}: {first['msg']}."
        ) from error
    if manifest.checksum() != manifest.manifest_sha256:
        raise CheckpointError(f"{file} has been changed since it was written. Copy it again.")
    for name, entry in manifest.files.items():
        inside(folder, name, error=CheckpointError)
        size = (folder / name).stat().st_size if (folder / name).is_file() else None
        if size != entry.bytes:
            found = "is missing" if size is None else f"has {size} bytes instead of {entry.bytes}"
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
        options=_options(JsonFile(file, manifest.config)),
        recorded_sha256=manifest.weights_sha256(),
    )


def _options(settings: JsonFile) -> RecordedOptions:
    fields = settings.content.get(OPTIONS, {})
    if not isinstance(fields, dict):
        raise settings.refused(OPTIONS, "wanted an object of fields of the preset.")
    return RecordedOptions(fields=fields, places=dict.fromkeys(fields, f"{settings.path}: {OPTIONS}"))
