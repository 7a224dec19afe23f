"""Stream arrays of orbax folders in pieces of a few MB, to use little more memory than the result.

Orbax stores arrays as compressed zarr chunks in tensorstore's OCDBT database; an array saved from a single device
is a single chunk. Tensorstore decompresses chunks as a whole, which takes up to twice their size besides the
result. This module fetches and decompresses them as streams.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import tensorstore

from simloop.untrusted import parse_json

PIECE_BYTES = 4 << 20
"""Piece of an array that is decompressed and cast at once."""
FETCH_BYTES = 1 << 20
"""Piece of a compressed chunk that is read at once."""


class OrbaxChunks:
    """OCDBT database of one folder."""

    def __init__(self, folder: Path) -> None:
        database = {"driver": "ocdbt", "base": f"file://{folder.resolve()}/"}
        self._store = tensorstore.KvStore.open(database).result()

    def read(self, name: str, expected: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
        """Read the array `name` of the expected shape, cast to `dtype`.

        Returns:
          None for unsupported layouts. Supported is zarr version 2, row major, compressed by zstd or uncompressed,
          without missing chunks.

        Raises:
          ValueError: If the array has another shape.
          EOFError: If a chunk is too short or too long.
          Exception: Various types of tensorstore and pyarrow, if the data are damaged.
        """
        described = self._store.read(f"{name}/.zarray").result()
        if described.state != "value":
            return None
        layout = parse_json(described.value, name)
        compressor = layout["compressor"]
        if layout["order"] != "C" or layout["filters"] or (compressor and compressor["id"] != "zstd"):
            return None
        shape, chunk = tuple(layout["shape"]), tuple(layout["chunks"])
        if shape != expected or len(chunk) != len(shape) or any(length < 1 for length in chunk):
            raise ValueError(f"{name} has the shape {shape} in chunks of {chunk}; the tree says {expected}")
        array = np.empty(shape, dtype)
        for corner in itertools.product(*(range(0, n, c) for n, c in zip(shape, chunk, strict=True))):
            index = [at // length for at, length in zip(corner, chunk, strict=True)]
            key = f"{name}/" + (layout.get("dimension_separator", ".").join(map(str, index)) or "0")
            if self._store.read(key, byte_range=slice(0, 0)).result().state != "value":
                return None
            stream: Any = io.BufferedReader(_Stored(self._store, key), FETCH_BYTES)
            if compressor:
                stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, "r"), "zstd")
            with stream:
                _fill(array, corner, chunk, stream, np.dtype(layout["dtype"]), key)
        return array


class _Stored(io.RawIOBase):
    """A value of the database as a file object."""

    def __init__(self, store: tensorstore.KvStore, key: str) -> None:
        self._store, self._key, self._position = store, key, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = slice(self._position, self._position + len(buffer))
        try:
            value = self._store.read(self._key, byte_range=wanted).result().value
        except ValueError:  # The range exceeds the value, whose size is unknown; read the rest.
            value = self._store.read(self._key, byte_range=slice(self._position, None)).result().value
        buffer[: len(value)] = value
        self._position += len(value)
        return len(value)


def _fill(
    array: np.ndarray,
    corner: tuple[int, ...],
    chunk: tuple[int, ...],
    stream: Any,
    stored: np.dtype,
    key: str,
) -> None:
    """Copy a chunk, which may exceed the array, from a stream of its entries in row-major order."""
    for start, block in _blocks(chunk, stored.itemsize):
        entries = np.empty(block, stored)
        _read_whole(stream, entries.reshape(-1).view(np.uint8), key)
        at = tuple(map(sum, zip(corner, start, strict=True)))
        kept = tuple(max(0, min(n, end - a)) for n, end, a in zip(block, array.shape, at, strict=True))
        target = tuple(slice(a, a + n) for a, n in zip(at, kept, strict=True))
        array[target] = entries[tuple(slice(n) for n in kept)]
    if stream.read(1):
        raise EOFError(f"{key} continues after its last entry")


def _blocks(chunk: tuple[int, ...], itemsize: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Split a chunk into consecutive blocks of at most PIECE_BYTES; yields start and shape of each."""
    axis = next(
        (i for i in range(len(chunk)) if math.prod(chunk[i + 1 :]) * itemsize <= PIECE_BYTES), len(chunk) - 1
    )
    if axis < 0:  # A scalar.
        yield (), ()
        return
    inner = chunk[axis + 1 :]
    rows = max(1, PIECE_BYTES // (math.prod(inner) * itemsize))
    for outer in itertools.product(*map(range, chunk[:axis])):
        for row in range(0, chunk[axis], rows):
            shape = (*(1 for _ in outer), min(rows, chunk[axis] - row), *inner)
            yield (*outer, row, *(0 for _ in inner)), shape


def _read_whole(stream: Any, buffer: np.ndarray, key: str) -> None:
    done = 0
    while done < len(buffer):
        count = stream.readinto(buffer[done:])
        if not count:
            raise EOFError(f"{key} ends before its last entry")
        done += count
