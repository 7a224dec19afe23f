"""Saved moments of episodes, in memory and as bytes.

An `EnvState` holds MuJoCo's integration state and every number that the suite keeps outside it, in Python. An episode
continues from it bit for bit, in another process too; `Env.save` and `Env.restore` are its two ends.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import safetensors.numpy
from jaxtyping import Float64

from simloop.untrusted import parse_json

Value: TypeAlias = "np.ndarray | np.generic | bool | int | float | list[float] | None"


class StateError(ValueError):
    """A saved state that cannot be read, or that belongs to another task or version."""

    user_facing = True


@dataclass(frozen=True, eq=False)
class EnvState:
    """A moment of an episode that `Env.restore` continues from. Equal and hashed by content."""

    suite: str
    task: str
    version: str
    """Packages that the simulation consists of, with versions; other versions may compute other steps."""
    steps: int
    """Control steps executed since `Env.reset`."""
    physics: Float64[np.ndarray, "_"]
    """MuJoCo's integration state, as in `Env.snapshot`."""
    values: Mapping[str, Value]
    """What the suite keeps outside the integration state, by name."""

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal digits."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EnvState) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def require(self, suite: str, task: str, version: str) -> None:
        """Raise `StateError` unless the state was saved by this task of this suite in this version."""
        if (self.suite, self.task) != (suite, task):
            raise StateError(
                f"An environment of {suite}/{task} restores states of its own task; got one of "
                f"{self.suite}/{self.task}. Make an environment of that task."
            )
        if self.version != version:
            raise StateError(
                f"{suite}/{task} runs with {version}; the state was saved with {self.version}, whose steps may "
                "differ. Install those versions, or replay the actions of the episode from its seed."
            )

    def to_bytes(self) -> bytes:
        """Serialize in the format of safetensors. Equal states give equal bytes."""
        arrays, plain = {"physics": self.physics}, {}
        for name, value in self.values.items():
            if isinstance(value, np.ndarray | np.generic):
                arrays[f"array/{name}"] = np.asarray(value)
            else:
                plain[name] = value
        header = {"suite": self.suite, "task": self.task, "version": self.version, "steps": self.steps}
        text = json.dumps({**header, "values": plain}, sort_keys=True)
        content: bytes = safetensors.numpy.save(arrays, {"header": text})
        return content

    @staticmethod
    def from_bytes(content: bytes) -> EnvState:
        """Read what `to_bytes` wrote.

        Raises:
          StateError: If the bytes are damaged or something else.
        """
        try:
            arrays = safetensors.numpy.load(content)
            header = parse_json(_metadata(content)["header"], "header")
            values, physics = dict(header.pop("values")), arrays.pop("physics")
            for name, array in arrays.items():
                values[name.removeprefix("array/")] = array[()]  # Arrays without axes are scalars.
            texts = (header["suite"], header["task"], header["version"])
            if not all(isinstance(text, str) for text in texts) or type(header["steps"]) is not int:
                raise ValueError(f"header of other types: {header}")
            if physics.dtype != np.float64 or physics.ndim != 1 or not all(map(_is_number, values.values())):
                raise ValueError("states of other types")
            return EnvState(**header, physics=physics, values=values)
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(
                f"Expected the bytes of EnvState.to_bytes; got {len(content)} bytes that cannot be read "
                f"({type(error).__name__}: {error}). Save the state again."
            ) from error


def _metadata(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file, which `safetensors.numpy.load` has checked and leaves out."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = parse_json(content[8 : 8 + length], "metadata")["__metadata__"]
    return metadata


def attributes(owner: object) -> dict[str, Value]:
    """Attributes of an object that are numbers, arrays of numbers, lists of numbers or None; arrays are copied.

    Views of another object's memory, such as MuJoCo's, are left out: they follow that object.
    """
    return {name: _copied(value) for name, value in vars(owner).items() if _is_plain(value)}


def set_attributes(owner: object, values: Mapping[str, Value]) -> None:
    """Set what `attributes` returned."""
    for name, value in values.items():
        setattr(owner, name, _copied(value))


def _is_plain(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf" and _owns_memory(value)
    if isinstance(value, list):
        return all(isinstance(entry, int | float) for entry in value)
    return value is None or isinstance(value, int | float | np.number | np.bool)


def _is_number(value: object) -> bool:
    """Whether a value that was read is one of those that `attributes` finds."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biuf"
    return _is_plain(value)


def _owns_memory(array: np.ndarray) -> bool:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.base is None


def _copied(value: Value) -> Value:
    return value.copy() if isinstance(value, np.ndarray | list) else value
