"""Columns of parquet files as arrays, whatever types the writers of one dataset chose for the same numbers.

Axis letters: n rows, s entries of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Shaped

from simloop.policies.training.dataset_layout import DatasetError
from simloop.untrusted import open_regular

MAX_TABLE_BYTES = 8 << 30
MAX_ROWS = 100_000_000
"""Of one parquet file; LeRobot begins a new one after 100 MB."""
NO_FOOTER = "Parquet magic bytes not found in footer"


class UnfinishedFileError(DatasetError):
    """A parquet file whose writer was interrupted, so that it has no footer."""


def read_table(file: Path, names: Sequence[str] | None = None) -> pa.Table:
    """Columns of a parquet file, by default those that are no statistics. Columns that it lacks are left out.

    Raises:
      UnfinishedFileError: If it has no footer.
      DatasetError: If it would take more than `MAX_TABLE_BYTES`, or cannot be read.
    """
    with open_regular(file, error=DatasetError) as stream, _opened(file, stream) as parquet:
        present = parquet.schema_arrow.names
        wanted = [
            name for name in present if (not name.startswith("stats/") if names is None else name in names)
        ]
        _require_bounded(file, parquet, wanted)
        return parquet.read(wanted)


def row_groups(file: Path, name: str) -> Iterator[pa.ChunkedArray]:
    """One column of a parquet file, a row group at a time."""
    with open_regular(file, error=DatasetError) as stream, _opened(file, stream) as parquet:
        _require_bounded(file, parquet, [name])
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group, [name]).column(name)


def vectors(tables: Iterable[tuple[Path, pa.Table]], key: str) -> Float32[np.ndarray, "n s"]:
    """A column of vectors from all files; nested lists with one long axis are flattened.

    Raises:
      DatasetError: If a vector is null or has a null entry, or lengths differ; names column, file and row.
    """
    parts: list[np.ndarray] = []
    for file, table in tables:
        part = _rows(file, key, _column(file, table, key))
        if parts and part.shape[1] != parts[0].shape[1]:
            raise DatasetError(
                f"{file}: {key} has {part.shape[1]} entries; earlier files have {parts[0].shape[1]}."
            )
        parts.append(part)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def numbers(tables: Iterable[tuple[Path, pa.Table]], key: str, dtype: type) -> Shaped[np.ndarray, " n"]:
    """A column of numbers from all files.

    Raises:
      DatasetError: If the column is absent, or a value is null or no number.
    """
    parts: list[np.ndarray] = []
    for file, table in tables:
        column = _column(file, table, key)
        _refuse_nulls(file, key, column)
        part = column.to_numpy() if len(column) else np.zeros(0)
        if part.dtype == object or (dtype is np.int64 and part.dtype.kind not in "iub" and len(column)):
            raise DatasetError(f"{file}: {key} holds {column.type}; wanted numbers.")
        parts.append(part.astype(dtype, copy=False))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _opened(file: Path, stream: Any) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        if NO_FOOTER in str(error):
            raise UnfinishedFileError(f"{file} has no footer") from error
        raise


def _require_bounded(file: Path, parquet: pq.ParquetFile, names: Sequence[str]) -> None:
    groups = map(parquet.metadata.row_group, range(parquet.metadata.num_row_groups))
    claimed = sum(
        group.column(i).total_uncompressed_size
        for group in groups
        for i in range(group.num_columns)
        if group.column(i).path_in_schema.split(".")[0] in names
    )
    if not 0 <= claimed <= MAX_TABLE_BYTES or not 0 <= parquet.metadata.num_rows <= MAX_ROWS:
        raise DatasetError(
            f"{file} would take {claimed} bytes of memory in {parquet.metadata.num_rows} rows; at most "
            f"{MAX_TABLE_BYTES} and {MAX_ROWS} are read of one file."
        )


def _column(file: Path, table: pa.Table, key: str) -> pa.ChunkedArray:
    if key not in table.column_names:
        raise DatasetError(
            f"{file} has no column {key!r}; it has {', '.join(map(repr, table.column_names))}."
        )
    return table.column(key)


def _refuse_nulls(file: Path, key: str, column: pa.ChunkedArray | pa.Array) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DatasetError(f"{file}: {key} of row {row} is null. Remove its episode.")


def _rows(file: Path, key: str, column: pa.ChunkedArray) -> Float32[np.ndarray, "n s"]:
    rows, array = len(column), column.combine_chunks()
    _refuse_nulls(file, key, array)
    shape: list[int] = []
    while (
        pa.types.is_list(array.type)
        or pa.types.is_large_list(array.type)
        or pa.types.is_fixed_size_list(array.type)
    ):
        shape.append(_length(file, key, array, rows))
        array = array.flatten()
    if array.null_count:
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0]) // max(
            1, int(np.prod(shape))
        )
        raise DatasetError(f"{file}: {key} of row {row} has a null entry. Remove its episode.")
    if sum(size > 1 for size in shape) > 1:
        raise DatasetError(f"{file}: {key} has the shape {tuple(shape)}; wanted vectors. Flatten it.")
    if not (
        pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)
    ):
        raise DatasetError(f"{file}: {key} holds {array.type}; wanted numbers.")
    flat = array.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return flat.reshape(rows, -1) if rows else np.zeros((0, max(1, int(np.prod(shape)))), np.float32)


def _length(file: Path, key: str, array: pa.Array, rows: int) -> int:
    """Number of entries of every list of an array.

    Raises:
      DatasetError: If lists have different lengths.
    """
    if pa.types.is_fixed_size_list(array.type):
        return int(array.type.list_size)
    lengths = np.diff(array.offsets.to_numpy())
    if lengths.size == 0:
        return 1
    other = np.flatnonzero(lengths != lengths[0])
    if other.size:
        row = int(other[0]) * rows // lengths.size
        raise DatasetError(
            f"{file}: {key} of row {row} has {lengths[other[0]]} entries; row 0 has {lengths[0]}. Remove its episode."
        )
    return int(lengths[0])
