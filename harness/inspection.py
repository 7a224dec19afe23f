"""Describe a checkpoint folder: its content, the presets that fit, and what they take over from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.text import Text

from simloop.policies.checkpoints import Checkpoint, CheckpointError, open_checkpoint
from simloop.policies.checkpoints.shapes import fitting_names
from simloop.policies.inference.adapters import stored_adapters
from simloop.policies.inference.loading import checkpoint_stats
from simloop.policies.models.parameters import shapes
from simloop.policies.presets import PRESETS, Preset
from simloop.policies.presets import preset as preset_of
from simloop.policies.presets.recorded import fitted, taken_over
from simloop.policies.transforms.normalization import nearly_constant

SHOWN = ("family", "chunk_steps", "flow_steps", "relative", "cameras", "image_hw", "state_size", "action_size",
         "padded_size", "prompt_length", "normalization", "resizing", "config_name", "asset_id")  # fmt: skip


def show(folder: Path, name: str, console: Console) -> int:
    """Print the description; returns the exit status, 1 if no preset fits.

    Raises:
      CheckpointError: If the folder is no checkpoint, or states something that simloop does not support.
      UnknownPresetError: If a preset is named that does not exist.
    """
    opened = open_checkpoint(folder)
    candidates = [preset_of(name)] if name else _candidates(opened)
    judged = [(one, _obstacle(one, opened)) for one in candidates]
    fits = [one for one, obstacle in judged if obstacle is None]
    for label, text in (*_content(opened), *_verdict(opened, judged, fits)):
        console.print(Text.assemble((f"{label:<16}", "bold"), text), soft_wrap=True)
    return 0 if fits else 1


def _candidates(opened: Checkpoint) -> list[Preset]:
    """Presets to try: that of the checkpoint if it names one, else those of its family."""
    named = opened.preset or opened.options.config_name
    if named in PRESETS:
        return [PRESETS[named]]
    family = opened.options.family
    return [one for one in PRESETS.values() if family in (None, one.model.family)]


def _obstacle(one: Preset, opened: Checkpoint) -> str | None:
    """Why a preset cannot be used with a checkpoint; None if it can."""
    try:
        opened.require_preset(one.name)
        chosen = fitted(one, opened.options, str(opened.path))
        model = dataclasses.replace(chosen.model, action_horizon=1)  # Shapes do not depend on it.
        of_model = shapes(model)
        of_model |= stored_adapters(opened.source, of_model)
        expected = {name: jax.ShapeDtypeStruct(shape, model.dtype) for name, shape in of_model.items()}
        fitting_names(opened.source, expected, where=str(opened.path), may_lack="", may_drop="")
        checkpoint_stats(chosen, opened, warn=False)
    except (CheckpointError, ValueError) as error:
        return str(error).splitlines()[0]
    return None


def _content(opened: Checkpoint) -> Iterator[tuple[str, str]]:
    numbers = sum(math.prod(array.shape) for array in opened.arrays)
    dtypes = sorted({str(array.dtype) for array in opened.arrays})
    yield "folder", str(opened.path)
    yield "format", opened.format
    yield "weights", f"{len(opened.arrays)} arrays, {numbers / 1e6:,.1f} M numbers in {', '.join(dtypes)}"
    if adapters := sum("lora_a" in array.name for array in opened.arrays):
        yield "adapters", f"{adapters} (LoRA), merged when the weights are loaded"
    for asset_id in opened.statistics.asset_ids():
        stats = opened.statistics.read(asset_id)
        sizes = ", ".join(f"{key} of {len(entry.mean)}" for key, entry in stats.items())
        yield "statistics", f"{asset_id or 'of one robot'}: {sizes}"
    for name in SHOWN:
        if (value := getattr(opened.options, name)) is not None:
            yield "states", f"{name} {_plain(value)}"
    for name, value in opened.options.fields.items():
        yield "states", f"{name} {_plain(value)}"
    if unused := [
        name for name, value in opened.options.unused.items() if value not in (None, False, [], {})
    ]:
        yield "not used", ", ".join(unused)


def _verdict(
    opened: Checkpoint, judged: Sequence[tuple[Preset, str | None]], fits: Sequence[Preset]
) -> Iterator[tuple[str, str]]:
    if not fits:
        yield "fits", "no preset"
        for one, obstacle in judged:
            yield "", f"{one.name}: {obstacle}"
        return
    yield "fits", ", ".join(one.name for one in fits)
    chosen = fitted(fits[0], opened.options, str(opened.path))
    plain = {f"model.{f.name}": getattr(fits[0].model, f.name) for f in dataclasses.fields(fits[0].model)}
    plain |= {f.name: getattr(fits[0], f.name) for f in dataclasses.fields(fits[0])}
    for name, value in taken_over(chosen).items():
        yield "taken over", f"{name} {_plain(value)} (preset: {_plain(plain[name])})"
    stats = checkpoint_stats(chosen, opened, warn=False)
    for key, size in (("state", chosen.state_size), ("actions", chosen.action_size)):
        for sentence in nearly_constant(key, stats[key], chosen.normalization, size) if key in stats else ():
            yield "warning", sentence
    yield "run as", f"{fits[0].name}@{opened.path}"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(one) for one in value) + "]"
    return str(value)
