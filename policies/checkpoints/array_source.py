"""What the files of a checkpoint look like from outside, whatever wrote them.

A model's parameters are a flat mapping from openpi's names (`PaliGemma/llm/layers/mlp/linear`) to
arrays; layers are stacked along the first axis. An `ArraySource` says how one kind of file spells
these names and hands out one array at a time.
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
    """A checkpoint that cannot be used as it is; the sentence names the file and what to do."""


class CheckpointMismatch(CheckpointError):
    """A checkpoint whose arrays are not those of the model. Every difference is in the message.

    `missing` and `misshapen` hold names of the model; `extra` holds names of the files.
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
    """One array as it lies in the files; several of them may make up one array of the model."""

    name: str
    """Name in the files."""
    shape: Shape
    dtype: np.dtype
    model_name: str | None
    """The model's array that it belongs to; None where no model of the family has a place for it."""

    @property
    def nbytes(self) -> int:
        """Bytes of the array, uncompressed."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class ArraySource(abc.ABC):
    """The arrays of one checkpoint. Making one reads names and shapes, never the arrays."""

    stored: tuple[StoredArray, ...]
    """Everything in the files except what no model ever reads (`unread`)."""
    unread: tuple[str, ...] = ()
    """Names in the files that are left alone on purpose, such as a second copy of a tied table."""

    @abc.abstractmethod
    def parts(self, name: str, shape: Shape) -> Mapping[str, Shape]:
        """What these files must hold for one array of the model: name in the files to shape.

        Empty if this kind of file has no place for an array of that name.
        """

    @abc.abstractmethod
    def read(self, name: str, shape: Shape, dtype: np.dtype) -> np.ndarray:
        """Read one array of the model, cast to `dtype`, into fresh memory.

        Holds little more than the result while reading, where the files allow it.

        Raises:
          CheckpointError: If the files are damaged.
        """

    @abc.abstractmethod
    def files(self) -> tuple[Path, ...]:
        """Every file that the arrays lie in, in a fixed order."""


def describe_shape(shape: Iterable[int]) -> str:
    """A shape as it reads in a sentence: `18×2048`, or `scalar`."""
    return "×".join(str(size) for size in shape) or "scalar"
