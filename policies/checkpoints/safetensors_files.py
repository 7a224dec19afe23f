"""Arrays in safetensors files, read block by block and never unpickled.

The format: 8 bytes with the length of a JSON header, the header (name to dtype, shape and place),
then the arrays without gaps. Everything the header promises is held against the file before any
array is read, so that a file that was cut off or written over is refused at once.

Reference: https://github.com/huggingface/safetensors (section "Format").
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from simloop.policies.checkpoints.array_source import CheckpointError, Shape

BLOCK_BYTES = 32 << 20  # Large enough for full disk speed, small beside any array that matters.
MAX_HEADER_BYTES = 100 << 20  # The format's own limit.
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
    """Where one array lies."""

    file: Path
    begin: int
    """Byte in the file at which the array starts."""
    shape: Shape
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def read_header(file: Path) -> dict[str, Entry]:
    """The arrays of one safetensors file, in the order of their bytes.

    Raises:
      CheckpointError: If header and file do not agree.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        if len(prefix) < 8:
            raise CheckpointError(
                f"{file} is no safetensors file: it has {size} bytes, fewer than its header's length takes."
            )
        length = int.from_bytes(prefix, "little")
        if length > MAX_HEADER_BYTES or 8 + length > size:
            raise CheckpointError(
                f"{file} is cut off or no safetensors file: it announces a header of {length} bytes and has "
                f"{size} bytes in all. Copy or download it again."
            )
        text = stream.read(length)
    try:
        header = json.loads(text)
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
            f"{'cut off' if size < end else 'written over'}. Copy or download it again."
        )
    return dict(listed)


def _entry(file: Path, data_begin: int, name: str, spec: dict[str, Any]) -> tuple[str, Entry]:
    if spec["dtype"] not in DTYPES:
        raise ValueError(f"array {name!r} has the dtype {spec['dtype']}, which no model of the family has")
    begin, end = spec["data_offsets"]
    shape = tuple(int(size) for size in spec["shape"])
    entry = Entry(file, data_begin + int(begin), shape, DTYPES[spec["dtype"]])
    if end - begin != entry.nbytes:
        raise ValueError(
            f"array {name!r} takes {entry.nbytes} bytes by its shape and {end - begin} by its place"
        )
    return name, entry


class SafetensorsFiles:
    """One safetensors file, or several shards that belong together."""

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
          CheckpointError: If there is neither, a shard is absent, or the list and the shards disagree.
        """
        single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
        if single.is_file():
            return cls([single])
        if not index.is_file():
            raise CheckpointError(
                f"{folder} holds neither model.safetensors nor model.safetensors.index.json."
            )
        try:
            listed = {
                str(name): str(file) for name, file in json.loads(index.read_text())["weight_map"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index} is not a list of shards ({error}). Download it again.") from error
        shards = [file_beside(index, name) for name in sorted(set(listed.values()))]
        absent = [shard.name for shard in shards if not shard.is_file()]
        if absent:
            raise CheckpointError(f"{folder} lacks the shards {', '.join(absent)} that {index.name} lists.")
        files = cls(shards)
        found = {name: entry.file.name for name, entry in files.entries.items()}
        wrong = sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))
        if wrong:
            raise CheckpointError(
                f"{index} and its shards disagree about {len(wrong)} arrays, such as {wrong[0]!r} (list: "
                f"{listed.get(wrong[0])}, shards: {found.get(wrong[0])}). Download the whole folder again."
            )
        return files

    def read(
        self, name: str, dtype: np.dtype | None = None, watch: Callable[[memoryview], None] | None = None
    ) -> np.ndarray:
        """Read one array in the shape it is stored in, cast to `dtype` block by block.

        Args:
          name: Name in the files.
          dtype: What to cast to; the stored dtype if None.
          watch: Is shown every stored byte as it passes, such as the `update` of a hash.
        """
        entry = self.entries[name]
        array = np.empty(entry.shape, entry.dtype if dtype is None else dtype)
        flat = array.reshape(-1)
        with entry.file.open("rb", buffering=0) as stream:
            stream.seek(entry.begin)
            if array.dtype == entry.dtype:
                for block in _blocks(flat.view(np.uint8), BLOCK_BYTES):
                    _fill(stream, block, entry.file, watch)
            else:
                step = BLOCK_BYTES // entry.dtype.itemsize
                raw = np.empty(min(step, flat.size), entry.dtype)
                for block in _blocks(flat, step):
                    _fill(stream, raw[: block.size].view(np.uint8), entry.file, watch)
                    block[...] = raw[: block.size]
        return array

    def sha256(self, name: str) -> str:
        """Hash of one array's bytes, read block by block."""
        entry, digest = self.entries[name], hashlib.sha256()
        raw = np.empty(min(BLOCK_BYTES, entry.nbytes), np.uint8)
        with entry.file.open("rb", buffering=0) as stream:
            stream.seek(entry.begin)
            for begin in range(0, entry.nbytes, BLOCK_BYTES):
                _fill(stream, raw[: entry.nbytes - begin], entry.file, digest.update)
        return digest.hexdigest()


def file_beside(listing: Path, name: str) -> Path:
    """The file of that name in the folder of the file that lists it; never one outside the folder."""
    if Path(name).name != name:
        raise CheckpointError(
            f"{listing} lists {name!r}, which is not a plain file name. Do not trust this folder."
        )
    return listing.with_name(name)


def _blocks(flat: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for begin in range(0, flat.size, size):
        yield flat[begin : begin + size]


def _fill(stream: BinaryIO, raw: np.ndarray, file: Path, watch: Callable[[memoryview], None] | None) -> None:
    view = raw.data
    done = 0
    while done < len(view):
        count = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise CheckpointError(f"{file} became shorter while it was read. Copy or download it again.")
        done += count
    if watch is not None:
        watch(view)
