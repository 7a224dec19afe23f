"""Steps of a LeRobot processor, `policy_preprocessor.json` or `policy_postprocessor.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.checkpoints.recorded_options import JsonFile
from simloop.untrusted import read_json_object

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"

NORMALIZER, UNNORMALIZER = "normalizer_processor", "unnormalizer_processor"
RENAME, RELATIVE, ABSOLUTE = (
    "rename_observations_processor", "relative_actions_processor", "absolute_actions_processor",
)  # fmt: skip
TOKENIZER, PI05_PROMPT, PI0_FAST_PROMPT = (
    "tokenizer_processor",
    "pi05_prepare_state_tokenizer_processor_step",
    "pi0_fast_prepare_state_tokenizer_processor_step",
)
WITHOUT_EFFECT = {
    "to_batch_processor", "to_batch_processor_action", "to_batch_processor_observation",
    "to_batch_processor_complementary_data", "device_processor", "pi0_new_line_processor",
    "action_tokenizer_processor",
}  # fmt: skip
"""Steps that move data, and those that simloop's own encoding of prompts performs."""
KNOWN = {
    PREPROCESSOR: WITHOUT_EFFECT | {NORMALIZER, RENAME, RELATIVE, TOKENIZER, PI05_PROMPT, PI0_FAST_PROMPT},
    POSTPROCESSOR: WITHOUT_EFFECT | {UNNORMALIZER, ABSOLUTE},
}


@dataclass(frozen=True)
class Pipeline:
    """The steps of one processor that decide answers."""

    file: JsonFile
    present: bool = False
    """Whether the file exists."""
    normalizer: Mapping[str, Any] | None = None
    """The step that normalizes states, or unnormalizes actions."""
    norm_map: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Keys of observations before and after renaming."""
    relative: Mapping[str, Any] | None = None
    """Settings of the step that makes actions relative, or absolute again; None if there is none or it is disabled."""
    prompt_length: int | None = None
    writes_state: bool = False
    """Whether a step writes the state into the prompt."""

    @classmethod
    def read(cls, path: Path) -> Pipeline:
        """Read one processor; without steps if there is no such file.

        Raises:
          CheckpointError: If a step is unknown or changes answers in a way that simloop does not support.
        """
        if not path.is_file():
            return cls(JsonFile(path, {}))
        file = JsonFile(path, read_json_object(path, remedy="Download it again.", error=CheckpointError))
        steps: dict[str, dict[str, Any]] = {}
        for name, step in _enabled_steps(file):
            if name not in KNOWN[path.name]:
                raise file.refused(
                    "a step", "simloop does not know this step, which may change answers.", name
                )
            if name in steps and name not in WITHOUT_EFFECT:
                raise file.refused("a step", "it occurs twice.", name)
            steps[name] = step
        if PI0_FAST_PROMPT in steps:
            why = "LeRobot writes prompts of pi0-FAST in another way than openpi, which simloop follows."
            raise file.refused("a step", why, PI0_FAST_PROMPT)
        _require_order(file, list(steps))
        normalizer = steps.get(NORMALIZER, steps.get(UNNORMALIZER))
        return cls(
            file,
            present=True,
            normalizer=normalizer,
            norm_map={} if normalizer is None else _norm_map(file, normalizer),
            renamed=_rename_map(file, steps.get(RENAME, {})),
            relative=next(
                (_settings(steps[shift]) for shift in (RELATIVE, ABSOLUTE) if shift in steps), None
            ),
            prompt_length=_prompt_length(file, steps.get(TOKENIZER)),
            writes_state=_writes_state(file, steps.get(PI05_PROMPT)),
        )


def _enabled_steps(file: JsonFile) -> list[tuple[str, dict[str, Any]]]:
    steps = file.content.get("steps", [])
    if not isinstance(steps, list) or not all(
        isinstance(step, dict) and isinstance(_settings(step), dict) for step in steps
    ):
        raise file.refused("steps", "wanted a list of steps with a name and a config.")
    named = [(str(step.get("registry_name") or step.get("class")), step) for step in steps]
    # A relative or absolute step is disabled unless it says otherwise, as in LeRobot.
    return [
        (name, step)
        for name, step in named
        if _settings(step).get("enabled", name not in (RELATIVE, ABSOLUTE)) is not False
    ]


def _settings(step: Mapping[str, Any]) -> dict[str, Any]:
    return step.get("config") or {}


def _require_order(file: JsonFile, names: list[str]) -> None:
    """Raise unless the state is added to actions in robot units."""
    for first, second in ((RELATIVE, NORMALIZER), (UNNORMALIZER, ABSOLUTE)):
        if {first, second} <= set(names) and names.index(first) > names.index(second):
            raise file.refused("steps", f"{first} must come before {second}.", names)


def _norm_map(file: JsonFile, step: Mapping[str, Any]) -> Mapping[str, str]:
    modes = _settings(step).get("norm_map")
    if not isinstance(modes, dict):
        raise CheckpointError(
            f"{file.path}: step {step.get('registry_name')!r} does not record its normalization (norm_map)."
        )
    if modes.get("VISUAL", "IDENTITY") != "IDENTITY":
        raise file.refused("norm_map", "simloop's models take images as they are (VISUAL: IDENTITY).", modes)
    keys = _settings(step).get("normalize_observation_keys")
    if keys is not None and "observation.state" not in keys:
        raise file.refused("normalize_observation_keys", "the state is normalized in simloop.", keys)
    return {"STATE": "IDENTITY", "ACTION": "IDENTITY", **{str(key): str(mode) for key, mode in modes.items()}}


def _rename_map(file: JsonFile, step: Mapping[str, Any]) -> Mapping[str, str]:
    renamed = _settings(step).get("rename_map") or {}
    if not isinstance(renamed, dict) or not all(isinstance(new, str) for new in renamed.values()):
        raise file.refused("rename_map", "wanted an object of old and new names.", renamed)
    return renamed


def _prompt_length(file: JsonFile, step: Mapping[str, Any] | None) -> int | None:
    if step is None:
        return None
    settings = JsonFile(file.path, _settings(step))
    name = settings.content.get("tokenizer_name")
    if name is not None and "paligemma" not in str(name).lower():
        raise settings.refused("tokenizer_name", "simloop's models read prompts of PaliGemma's tokenizer.")
    settings.require("padding_side", "right", why="simloop's models are padded on the right.")
    settings.require("padding", "max_length", why="simloop pads prompts to one length.")
    settings.require("task_key", "task", why="simloop's prompts are the instruction of the task.")
    return settings.integer("max_length")


def _writes_state(file: JsonFile, step: Mapping[str, Any] | None) -> bool:
    if step is None:
        return False
    settings = JsonFile(file.path, _settings(step))
    settings.require("include_state_in_prompt", True, why="simloop's pi0.5 writes the state into the prompt.")
    return True
