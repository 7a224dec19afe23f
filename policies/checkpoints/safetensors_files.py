"""Read arrays of safetensors files block by block.

The format: 8 bytes with the length of a JSON header, the header (name to dtype, shape and offsets), then the arrays
without gaps. The header is checked against the size of the file before any array is read, so truncated and
overwritten files are rejected at once.

Reference: https://github.com/huggingface/safetensors (section "Format").
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from simloop.policies.checkpoints.array_source import CheckpointError, Shape
from simloop.untrusted import open_regular, parse_json, read_json_object

BLOCK_BYTES = 32 << 20  # Large enough for full disk speed, small compared with large arrays.
MAX_HEADER_BYTES = 16 << 20  # 10 000 arrays take 2 MB; Python's objects take twenty times as much.
DTYPES: Mapping[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U32": np.dtype(np.uint32),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


@dataclass(frozen=True)
class Entry:
    """Location of an array."""

    file: Path
    begin: int
    """Offset of the array in the file, in bytes."""
    shape: Shape
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: Path) -> dict[str, Entry]:
    """Arrays of one safetensors file, in the order of their offsets. No array is larger than the file.

    Raises:
      CheckpointError: If header and file disagree.
    """
    with open_regular(file, error=CheckpointError) as stream:
        size = os.fstat(stream.fileno()).st_size
        prefix = stream.read(8)
        if len(prefix) < 8:
            raise CheckpointError(f"{file} is not a safetensors file: it has only {size} bytes.")
        length = int.from_bytes(prefix, "little")
        if length > MAX_HEADER_BYTES or 8 + length > size:
            raise CheckpointError(
                f"{file} is truncated or not a safetensors file: its header should have {length} bytes, the file has "
                f"{size}. Copy or download it again."
            )
        text = stream.read(length)
    try:
        header = parse_json(text, "it")
        listed = [_entry(file, 8 + length, name, spec) for name, spec in header.items() if name[:2] != "__"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} has a damaged header ({error}). Copy or download it again.") from error
    listed.sort(key=lambda item: item[1].begin)
    end = 8 + length
    for name, entry in listed:
        if entry.begin != end:
            raise CheckpointError(
                f"{file} has a damaged header: array {name!r} should start at byte {end}, the header says "
                f"{entry.begin}. Copy or download it again."
            )
        end += entry.nbytes
    if end != size:
        raise CheckpointError(
            f"{file} should have {end} bytes by its header and has {size}: it was "
            f"{'truncated' if size < end else 'overwritten'}. Copy or download it again."
        )
    return dict(listed)


def _entry(file: Path, data_begin: int, name: str, spec: dict[str, Any]) -> tuple[str, Entry]:
    if spec["dtype"] not in DTYPES:
        raise ValueError(f"array {name!r} has the unsupported dtype {spec['dtype']}")
    begin, end = spec["data_offsets"]
    shape = tuple(spec["shape"])
    if any(type(number) is not int or not 0 <= number < 2**48 for number in (begin, end, *shape)):
        raise ValueError(f"array {name!r} has the shape {shape} and the offsets {begin} and {end}")
    entry = Entry(file, data_begin + begin, shape, DTYPES[spec["dtype"]])
    if end - begin != entry.nbytes:
        raise ValueError(
            f"array {name!r} takes {entry.nbytes} bytes by its shape and {end - begin} by its place"
        )
    return name, entry


class SafetensorsFiles:
    """One safetensors file, or the shards of one checkpoint."""

    def __init__(self, files: list[Path]) -> None:
        self.files = tuple(files)
        self.entries: dict[str, Entry] = {}
        for file in files:
            for name, entry in read_header(file).items():
                if name in self.entries:
                    raise CheckpointError(
                        f"Array {name!r} is both in {self.entries[name].file} and in {file}. Remove the file "
                        "that does not belong to the checkpoint."
                    )
                self.entries[name] = entry

    @classmethod
    def in_folder(cls, folder: Path) -> SafetensorsFiles:
        """`model.safetensors`, or the shards that `model.safetensors.index.json` lists.

        Raises:
          CheckpointError: If there is neither, a shard is missing, or the index and the shards disagree.
        """
        single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
        if single.is_file():
            return cls([single])
        if not index.is_file():
            raise CheckpointError(
                f"{folder} contains neither model.safetensors nor model.safetensors.index.json."
            )
        try:
            listed = {
                str(name): str(file)
                for name, file in read_json_object(index, error=CheckpointError)["weight_map"].items()
            }
        except (KeyError, AttributeError) as error:
            raise CheckpointError(
                f"{index} is not an index of shards ({error}). Download it again."
            ) from error
        shards = [file_beside(index, name) for name in sorted(set(listed.values()))]
        absent = [shard.name for shard in shards if not shard.is_file()]
        if absent:
            raise CheckpointError(f"{folder} lacks the shards {', '.join(absent)} that {index.name} lists.")
        files = cls(shards)
        found = {name: entry.file.name for name, entry in files.entries.items()}
        wrong = sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))
        if wrong:
            raise CheckpointError(
                f"{index} and its shards disagree about {len(wrong)} arrays, such as {wrong[0]!r} (index: "
                f"{listed.get(wrong[0])}, shards: {found.get(wrong[0])}). Download the whole folder again."
            )
        return files

    def read(
        self, name: str, dtype: np.dtype | None = None, watch: Callable[[memoryview], None] | None = None
    ) -> np.ndarray:
        """Read an array in its stored shape, cast to `dtype` block by block.

        Args:
          name: Name in the files.
          dtype: Dtype of the result; None for the stored dtype.
          watch: Called with all stored bytes in order, such as the `update` of a hash.
        """
        entry = self.entries[name]
        array = np.empty(entry.shape, entry.dtype if dtype is None else dtype)
        flat, done = array.reshape(-1), 0
        cast = array.dtype != entry.dtype
        for raw in _blocks(entry, None if cast else flat.view(np.uint8)):
            if watch is not None:
                watch(raw.data)
            if cast:
                block = raw.view(entry.dtype)
                flat[done : done + block.size] = block
                done += block.size
        return array

    def sha256(self, name: str) -> str:
        """Hash of an array's bytes, read block by block."""
        digest = hashlib.sha256()
        for raw in _blocks(self.entries[name]):
            digest.update(raw.data)
        return digest.hexdigest()


def file_beside(listing: Path, name: str) -> Path:
    """The file of that name in the folder of the file that lists it.

    Raises:
      CheckpointError: If the name is a path, which could lead outside the folder, or no file can have it.
    """
    if Path(name).name != name or name == "..":
        raise CheckpointError(
            f"{listing} lists {name!r}, which is not a plain file name. Do not trust this folder."
        )
    try:
        listing.with_name(name).exists()
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{listing} lists a file that cannot exist: {error}. Do not trust this folder."
        ) from error
    return listing.with_name(name)


def _blocks(entry: Entry, into: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """The bytes of an array as consecutive blocks, read into `into` or else into one shared buffer."""
    buffer = np.empty(min(BLOCK_BYTES, entry.nbytes), np.uint8)
    with open_regular(entry.file, error=CheckpointError) as stream:
        stream.seek(entry.begin)
        for begin in range(0, entry.nbytes, BLOCK_BYTES):
            raw = buffer[: entry.nbytes - begin] if into is None else into[begin : begin + BLOCK_BYTES]
            if stream.readinto(raw.data) < raw.size:
                raise CheckpointError(
                    f"{entry.file} was truncated while it was read. Copy or download it again."
                )
            yield raw
