"""Compare the arrays of a checkpoint with those of a model, and report every difference."""

from __future__ import annotations

import re
from collections.abc import Mapping

import jax.numpy as jnp
from jax.typing import DTypeLike

from simloop.policies.checkpoints.array_source import (
    ArraySource,
    ArraySpec,
    CheckpointMismatch,
    Shape,
    StoredArray,
    describe_shape,
)


def fitting_names(
    source: ArraySource, expected: Mapping[str, ArraySpec], *, where: str, may_lack: str, may_drop: str
) -> list[str]:
    """Names of the expected arrays that the checkpoint has, in the expected order.

    Raises:
      CheckpointMismatch: If arrays are missing, extra, or of another shape or dtype. All are listed.
    """
    stored = {array.name: array for array in source.stored}
    fitting: list[str] = []
    used: set[str] = set()
    missing: dict[str, str] = {}
    misshapen: dict[str, str] = {}
    for name, spec in expected.items():
        parts = source.parts(name, tuple(spec.shape))
        used.update(parts)
        if absence := _absence(parts, stored):
            if not re.fullmatch(may_lack, name):
                missing[name] = f"{name} ({describe_shape(spec.shape)}): {absence}"
        elif _misshapen(parts, stored) and re.fullmatch(may_lack, name) and re.fullmatch(may_drop, name):
            continue  # The model's array is missing, and that of the files is extra.
        elif fault := _fault(parts, stored, spec.dtype):
            misshapen[name] = f"{name} ({describe_shape(spec.shape)}): {fault}"
        else:
            fitting.append(name)
    extra = {
        array.name: f"{array.name} ({describe_shape(array.shape)}): {_extra(array, expected)}"
        for array in source.stored
        if array.name not in used and not re.fullmatch(may_drop, array.model_name or array.name)
    }
    if missing or misshapen or extra:
        raise _mismatch(where, missing, misshapen, extra)
    return fitting


def _absence(parts: Mapping[str, Shape], stored: Mapping[str, StoredArray]) -> str | None:
    """Description of what the files lack for an array; None if it is complete."""
    if not parts:
        return "this format has no such array"
    absent = [part for part in parts if part not in stored]
    return f"the files have no {_some(absent)}" if absent else None


def _misshapen(parts: Mapping[str, Shape], stored: Mapping[str, StoredArray]) -> list[str]:
    """Names of parts whose shapes in the files are not those of the model."""
    return [part for part, wanted in parts.items() if stored[part].shape != wanted]


def _fault(
    parts: Mapping[str, Shape], stored: Mapping[str, StoredArray], wanted_dtype: DTypeLike
) -> str | None:
    """Description of a wrong shape or dtype; None if there is none."""
    if misshapen := _misshapen(parts, stored):
        wanted, found = parts[misshapen[0]], stored[misshapen[0]].shape
        return f"{_some(misshapen)} should be {describe_shape(wanted)} in the files and is {describe_shape(found)}"
    if jnp.issubdtype(wanted_dtype, jnp.floating):
        quantized = [part for part in parts if not jnp.issubdtype(stored[part].dtype, jnp.floating)]
        if quantized:
            return f"{_some(quantized)} is stored as {stored[quantized[0]].dtype}; quantized weights are not supported"
    return None


def _extra(array: StoredArray, expected: Mapping[str, ArraySpec]) -> str:
    if array.model_name is None:
        return "no model of the family has such an array"
    if array.model_name in expected:
        return f"belongs to {array.model_name}, which has fewer layers in the model"
    return f"belongs to {array.model_name}, which the model does not have"


def _mismatch(
    where: str, missing: Mapping[str, str], misshapen: Mapping[str, str], extra: Mapping[str, str]
) -> CheckpointMismatch:
    """An error with one line per difference. The arguments are lines by name."""
    counts = f"{len(missing)} arrays missing, {len(misshapen)} misshapen, {len(extra)} extra"
    lines = [f"{where} does not fit the model: {counts}."]
    for kind, found in (("missing", missing), ("misshapen", misshapen), ("extra", extra)):
        lines += [f"  {kind:9} {line}" for line in found.values()]
    if any("lora" in name for name in extra):
        lines.append(
            "It contains LoRA adapters: those of this model would be merged; these have other shapes."
        )
    else:
        lines.append("Load it with the preset that it was trained with.")
    return CheckpointMismatch("\n".join(lines), missing=missing, extra=extra, misshapen=misshapen)


def _some(parts: list[str]) -> str:
    more = len(parts) - 1
    return f"{parts[0]!r}" + (f" and {more} more" if more else "")
