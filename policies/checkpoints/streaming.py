"""Brings the arrays of a checkpoint onto the devices, one at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Sharding
from jax.typing import DTypeLike

from policies.checkpoints.interface import (
    ArraySource,
    ArraySpec,
    CheckpointMismatch,
    Shape,
    describe_shape,
)


@dataclass(frozen=True)
class Progress:
    """How far loading is, told after every array."""

    name: str
    """The array that has just arrived."""
    bytes_done: int
    """On the devices, in the dtype loaded as."""
    bytes_total: int


def load_arrays(
    source: ArraySource,
    expected: Mapping[str, ArraySpec],
    *,
    where: str,
    dtype: DTypeLike | None = None,
    sharding: Sharding | Mapping[str, Sharding] | None = None,
    progress: Callable[[Progress], None] | None = None,
    may_lack: str = "",
    may_drop: str = "",
) -> dict[str, jax.Array]:
    """Load what a model expects; see `Checkpoint.load`.

    The largest array comes first: where host and device share their memory, the room that reading
    it takes is then needed while little else has been loaded.
    """
    names = fitting_names(source, expected, where=where, may_lack=may_lack, may_drop=may_drop)
    dtypes = {name: np.dtype(expected[name].dtype if dtype is None else dtype) for name in names}
    nbytes = {
        name: int(np.prod(expected[name].shape, dtype=np.int64)) * dtypes[name].itemsize for name in names
    }
    if isinstance(sharding, Mapping) and (without := [name for name in names if name not in sharding]):
        raise ValueError(f"sharding names no placement for {', '.join(without)}. Give one for every array.")
    arrays: dict[str, jax.Array] = {}
    done, total = 0, sum(nbytes.values())
    for name in sorted(names, key=lambda name: -nbytes[name]):
        placement = sharding[name] if isinstance(sharding, Mapping) else sharding
        host = source.read(name, tuple(expected[name].shape), dtypes[name])
        # Without waiting, the copies of many arrays would queue up and hold their host memory.
        arrays[name] = jax.device_put(host, placement).block_until_ready()
        del host
        done += nbytes[name]
        if progress is not None:
            progress(Progress(name, done, total))
    return {name: arrays[name] for name in names}


def fitting_names(
    source: ArraySource, expected: Mapping[str, ArraySpec], *, where: str, may_lack: str, may_drop: str
) -> list[str]:
    """Names of the expected arrays that the checkpoint has, in the order expected.

    Raises:
      CheckpointMismatch: If arrays are missing, left over or of another shape. All are listed.
    """
    stored = {array.name: array for array in source.stored}
    names: list[str] = []
    used: set[str] = set()
    missing: dict[str, str] = {}
    misshapen: dict[str, str] = {}
    for name, spec in expected.items():
        shape: Shape = tuple(spec.shape)
        parts = source.parts(name, shape)
        used.update(parts)
        absent = [part for part in parts if part not in stored]
        bent = [part for part, wanted in parts.items() if part in stored and stored[part].shape != wanted]
        if absent or not parts:
            held = f"the files have no {_some(absent)}" if parts else "this kind of file has no place for it"
            missing[name] = f"{name} ({describe_shape(shape)}): {held}"
        elif bent:
            wanted, found = parts[bent[0]], stored[bent[0]].shape
            misshapen[name] = (
                f"{name} ({describe_shape(shape)}): {_some(bent)} should be {describe_shape(wanted)} in the "
                f"files and is {describe_shape(found)}"
            )
        else:
            names.append(name)
    extra = {
        array.name: f"{array.name} ({describe_shape(array.shape)}): {_belonging(array.model_name, expected)}"
        for array in source.stored
        if array.name not in used and not re.fullmatch(may_drop, array.model_name or array.name)
    }
    missing = {name: line for name, line in missing.items() if not re.fullmatch(may_lack, name)}
    if not (missing or extra or misshapen):
        return names
    lines = [
        f"  {kind:9} {line}"
        for kind, found in (("missing", missing), ("misshapen", misshapen), ("extra", extra))
        for line in found.values()
    ]
    adapters = any("lora" in name for name in extra)
    raise CheckpointMismatch(
        f"{where} does not fit the model: {len(missing)} arrays missing, {len(misshapen)} misshapen, "
        f"{len(extra)} extra.\n"
        + "\n".join(lines)
        + (
            "\nThe checkpoint holds LoRA adapters: load it as the LoRA variant of the model and merge them."
            if adapters
            else "\nLoad it with the preset that it was trained with."
        ),
        missing=missing,
        extra=extra,
        misshapen=misshapen,
    )


def _some(parts: list[str]) -> str:
    more = len(parts) - 1
    return f"{parts[0]!r}" + (f" and {more} more" if more else "")


def _belonging(model_name: str | None, expected: Mapping[str, ArraySpec]) -> str:
    if model_name is None:
        return "no model of the family has such an array"
    return f"belongs to {model_name}, " + (
        "which has fewer layers in the model" if model_name in expected else "which the model does not have"
    )
