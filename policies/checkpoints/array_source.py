"""`ArraySource`: common interface of checkpoint formats.

A model's parameters are a flat mapping from openpi's names (`PaliGemma/llm/layers/mlp/linear`) to arrays; layers
are stacked along the first axis. An `ArraySource` maps these names to those of one format and reads one array at
a time.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Shape = tuple[int, ...]
Format = Literal["simloop", "openpi_orbax", "openpi_pytorch", "lerobot"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and what to do."""

    user_facing = True


class CheckpointMismatch(CheckpointError):
    """A checkpoint whose arrays differ from those of the model. The message lists every difference.

    `missing` and `misshapen` are names in the model; `extra` are names in the files.
    """

    def __init__(
        self, message: str, *, missing: Iterable[str], extra: Iterable[str], misshapen: Iterable[str]
    ) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        self.extra = tuple(extra)
        self.misshapen = tuple(misshapen)


@runtime_checkable
class ArraySpec(Protocol):
    """Shape and dtype of an array that a model expects, such as `jax.ShapeDtypeStruct`."""

    @property
    def shape(self) -> Any: ...

    @property
    def dtype(self) -> Any: ...


@dataclass(frozen=True)
class StoredArray:
    """An array in the files; several of them may form one array of the model."""

    name: str
    """Name in the files."""
    shape: Shape
    dtype: np.dtype
    model_name: str | None
    """Array of the model that it belongs to; None if no model of the family has such an array."""

    @property
    def nbytes(self) -> int:
        """Bytes of the array, uncompressed."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class ArraySource(abc.ABC):
    """Arrays of one checkpoint. Construction reads names and shapes only."""

    stored: tuple[StoredArray, ...]
    """All arrays in the files except `unread` ones."""
    unread: tuple[str, ...] = ()
    """Names in the files that are ignored, such as a second copy of a tied table."""

    @abc.abstractmethod
    def parts(self, name: str, shape: Shape) -> Mapping[str, Shape]:
        """Names and shapes in the files that form one array of the model.

        Empty if the format has no such array.
        """

    @abc.abstractmethod
    def read(self, name: str, shape: Shape, dtype: np.dtype) -> np.ndarray:
        """Read one array of the model into new memory, cast to `dtype`.

        If the format allows it, little more memory than that of the result is used.

        Raises:
          CheckpointError: If a file is damaged.
        """

    @abc.abstractmethod
    def files(self) -> tuple[Path, ...]:
        """All files with arrays, in a fixed order."""


def describe_shape(shape: Iterable[int]) -> str:
    """Format a shape for messages: `18×2048`, or `scalar`."""
    return "×".join(str(size) for size in shape) or "scalar"
