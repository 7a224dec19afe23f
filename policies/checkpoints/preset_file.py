"""`preset.toml` beside the weights, in which their owner states what no preset and no other file does.

preset = "pi05_base"        the preset whose model the weights have
asset_id = "g1"             which statistics, where there are several
robot = "g1"                robot convention, for which an adapter is needed
state_size = 43             every other key is a field of the preset, or of its model
model.action_dim = 64
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.checkpoints.checkpoint import Checkpoint
from simloop.untrusted import read_toml

PRESET_FILE = "preset.toml"


def with_preset_file(opened: Checkpoint) -> Checkpoint:
    """The checkpoint with what its `preset.toml` states, if there is one.

    Raises:
      CheckpointError: If the file cannot be read, or contradicts what the checkpoint records.
    """
    file = opened.path / PRESET_FILE
    if not file.exists():
        return opened
    content = read_toml(file, error=CheckpointError)
    named = {key: content.pop(key, None) for key in ("preset", "asset_id")}
    for key, value in named.items():
        if value is not None and not isinstance(value, str):
            raise CheckpointError(f"{file}: {key} is {value!r}; wanted a text.")
    opened.require_preset(named["preset"] or opened.preset or "")
    stated = dict(_flat(content))
    for key, value in opened.options.fields.items():
        if stated.setdefault(key, value) != value:
            raise CheckpointError(f"{file}: {key} is {stated[key]!r}; the checkpoint records {value!r}.")
    options = dataclasses.replace(opened.options, fields=stated, asset_id=named["asset_id"])
    return dataclasses.replace(opened, options=options, preset=named["preset"] or opened.preset)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
