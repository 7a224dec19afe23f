"""Options of a policy that a checkpoint records beside its weights and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.models.configs import Family
from simloop.policies.transforms.normalization import NormalizationKind
from simloop.policies.transforms.preprocessing import Resizing

OPTIONS = "options"
"""Key of the options in the settings of simloop's own checkpoints."""


@dataclass(frozen=True)
class RecordedOptions:
    """What a checkpoint states about its policy. None: the checkpoint does not state it.

    A preset takes all of it over or refuses it (`simloop.policies.presets.recorded`).
    """

    family: Family | None = None
    chunk_steps: int | None = None
    flow_steps: int | None = None
    max_delay: int | None = None
    """Longest delay in control steps that the weights were trained for."""
    relative: tuple[bool, ...] | None = None
    """Which leading action entries are relative to the state."""
    cameras: tuple[tuple[str, ...], ...] | None = None
    """Names of each camera in the order of the model: that of the robot, then that of the policy."""
    image_hw: tuple[int, int] | None = None
    state_size: int | None = None
    action_size: int | None = None
    padded_size: int | None = None
    """Length of the padded state and action vectors inside the model."""
    prompt_length: int | None = None
    """Padded length of prompts in tokens."""
    state_in_prompt: Literal[True] | None = None
    answer_tokens: int | None = None
    normalization: NormalizationKind | None = None
    resizing: Resizing | None = None
    absent_cameras: Literal["masked"] | None = None
    config_name: str | None = None
    """Name of openpi's training config, which its folders bear."""
    asset_id: str | None = None
    """Which statistics to use."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the preset that simloop recorded when it wrote the checkpoint, or that the owner states."""
    places: Mapping[str, str] = field(default_factory=dict)
    """File and key of each option, for messages."""
    unused: Mapping[str, Any] = field(default_factory=dict)
    """Recorded options that concern training or the execution of the policy, not its answers."""


@dataclass(frozen=True)
class JsonFile:
    """The content of one JSON file, read with checks that name the file, the key and the value."""

    path: Path
    content: Mapping[str, Any]

    def refused(self, key: str, why: str, value: Any = ...) -> CheckpointError:
        """The error for an entry that cannot be used."""
        shown = self.content.get(key) if value is ... else value
        return CheckpointError(f"{self.path}: {key} is {_short(shown)}; {why}")

    def integer(self, key: str) -> int | None:
        """A positive integer; None if the file does not have it."""
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**20:
            raise self.refused(key, "wanted a positive number.")
        return value

    def require(self, key: str, *accepted: Any, why: str) -> None:
        """Raise unless an entry is absent or has an accepted value."""
        if key in self.content and not any(self.content[key] == one for one in accepted):
            raise self.refused(key, why)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
