"""Presets that take over, or refuse, what a checkpoint states about its policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.checkpoints.recorded_options import RecordedOptions
from simloop.policies.models.configs import StateAs
from simloop.policies.presets import PRESETS, preset
from simloop.policies.presets.base import AbsentCamera, Preset, PromptFormat
from simloop.policies.transforms.normalization import NormalizationKind
from simloop.policies.transforms.preprocessing import RESIZINGS

OF_PRESET = (
    "cameras", "relative", "flow_steps", "answer_tokens", "prompt", "prompt_lengths", "absent_cameras", "resizing",
    "normalization", "robot", "state_size", "action_size", "replan_steps", "max_delay",
)  # fmt: skip
OF_MODEL = ("action_dim", "action_horizon", "cameras", "max_token_len", "state_as")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "normalization": get_args(NormalizationKind),
    "prompt": get_args(PromptFormat),
    "absent_cameras": get_args(AbsentCamera),
    "resizing": RESIZINGS,
    "state_as": get_args(StateAs),
}
"""Values of fields that have few."""
MODEL = "model."
"""Begins the names of fields of the model."""
CAMERAS: Mapping[str, tuple[str, ...]] = {
    "base_0_rgb": (
        "image", "agentview", "agentview_image", "front", "top", "cam_high", "base", "exterior_image_1_left",
    ),
    "left_wrist_0_rgb": (
        "image2", "wrist_image", "wrist", "wrist_0_rgb", "robot0_eye_in_hand", "robot0_eye_in_hand_image",
        "cam_left_wrist", "wrist_image_left",
    ),
    "right_wrist_0_rgb": ("cam_right_wrist",),
}  # fmt: skip
"""Names in published datasets of what the cameras of the models show."""


def fitted(chosen: Preset, options: RecordedOptions, where: str, *, as_start: bool = False) -> Preset:
    """The preset with everything that a checkpoint states about its policy.

    Args:
      chosen: Preset that the user named; a horizon in its name (`@h50`) must agree with the checkpoint.
      options: What the checkpoint states.
      where: Folder of the checkpoint, for messages.
      as_start: Training starts from the weights, for a robot and a horizon that may be others.

    Raises:
      CheckpointError: If the preset contradicts the checkpoint; names file, key and both values.
    """
    chosen = with_fields(chosen, options.fields, where)
    _refuse_contradictions(chosen, options, as_start=as_start)
    changes: dict[str, Any] = {
        name: value
        for name in (
            "flow_steps",
            "max_delay",
            "answer_tokens",
            "relative",
            "resizing",
            "absent_cameras",
            "normalization",
        )
        if (value := getattr(options, name)) is not None
    }
    if "relative" in changes and not any(changes["relative"]):
        changes["relative"] = ()
    of_model: dict[str, Any] = {}
    if options.chunk_steps is not None and not (as_start and "@h" in chosen.name):
        of_model["action_horizon"] = options.chunk_steps
    if options.cameras is not None:
        seen = tuple(_camera(names, chosen, options) for names in options.cameras)
        if len(set(seen)) < len(seen):
            raise _contradiction(
                options, "cameras", f"two cameras are the same one of {chosen.name}: {', '.join(seen)}"
            )
        if seen[: len(chosen.model.cameras)] != chosen.model.cameras[: len(seen)]:
            of_model["cameras"] = seen
        changes["cameras"] = tuple(camera for camera in chosen.cameras if camera in seen)
    if options.state_in_prompt and chosen.model.state_as == "unused":
        of_model["state_as"], changes["prompt"] = "prompt", "instruction_and_state"
    if (length := options.prompt_length) is not None:
        shorter = tuple(n for n in chosen.prompt_lengths[:-1] if n < length)
        changes["prompt_lengths"] = (*shorter, length)
        if chosen.action_tokens is None:
            of_model["max_token_len"] = length
    changed = _replaced(chosen, changes, of_model)
    for name in options.fields:
        if (stated := _field(chosen, name)) != (found := _field(changed, name)):
            raise CheckpointError(f"{where} states {name} {stated!r}; its other files say {found!r}.")
    return changed


def taken_over(one: Preset) -> dict[str, Any]:
    """Fields in which a preset differs from the one of its name, as JSON values."""
    plain = preset(one.name.partition("@")[0])
    pairs = [
        *((name, getattr(one, name), getattr(plain, name)) for name in OF_PRESET),
        *((MODEL + name, getattr(one.model, name), getattr(plain.model, name)) for name in OF_MODEL),
    ]
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value, original in pairs
        if value != original
    }


def _field(one: Preset, name: str) -> Any:
    return getattr(one.model if name.startswith(MODEL) else one, name.removeprefix(MODEL))


def with_fields(chosen: Preset, fields: Mapping[str, Any], where: str) -> Preset:
    """The preset with fields that `taken_over` recorded.

    Raises:
      CheckpointError: If a field is unknown, of another type, or contradicts a horizon in the preset's name.
    """
    changes: dict[str, Any] = {}
    of_model: dict[str, Any] = {}
    for name, value in fields.items():
        into, key, holder = (
            (of_model, name.removeprefix(MODEL), chosen.model)
            if name.startswith(MODEL)
            else (changes, name, chosen)
        )
        known = OF_MODEL if into is of_model else OF_PRESET
        value = tuple(value) if isinstance(value, list) else value
        if key not in known or not _is_like(value, getattr(holder, key), CHOICES.get(key)):
            raise CheckpointError(
                f"{where} states {name} = {value!r}, which is no field of presets, or not of its type."
            )
        into[key] = value
    recorded = of_model.get("action_horizon")
    if recorded is not None and "@h" in chosen.name and recorded != chosen.model.action_horizon:
        raise CheckpointError(f"{where} has chunks of {recorded} actions; {chosen.name!r} asks for others.")
    return _replaced(chosen, changes, of_model) if fields else chosen


def _refuse_contradictions(chosen: Preset, options: RecordedOptions, *, as_start: bool) -> None:
    model, size = chosen.model, (chosen.model.image_size, chosen.model.image_size)
    base = chosen.name.partition("@")[0]
    if options.config_name in PRESETS and options.config_name != base and not as_start:
        raise CheckpointError(
            f"The folders name openpi's config {options.config_name!r}; got preset {base!r}. Choose the preset of that "
            "name, or move the checkpoint out of folders of that name."
        )
    compared = [
        ("family", options.family, model.family),
        ("image_hw", options.image_hw, size),
        ("padded_size", options.padded_size, model.action_dim),
    ]
    if not as_start:
        compared += [
            ("state_size", options.state_size, chosen.state_size),
            ("action_size", options.action_size, chosen.action_size),
        ]
        if "@h" in chosen.name:
            compared.append(("chunk_steps", options.chunk_steps, model.action_horizon))
    for name, stated, needed in compared:
        if stated is not None and stated != needed:
            raise _contradiction(options, name, f"preset {chosen.name} has {needed!r}", stated)
    if options.resizing is not None and options.resizing not in RESIZINGS:
        raise _contradiction(options, "resizing", f"wanted one of {', '.join(RESIZINGS)}", options.resizing)


def _contradiction(options: RecordedOptions, name: str, why: str, value: Any = None) -> CheckpointError:
    stated = "" if value is None else f" is {value!r}"
    return CheckpointError(f"{options.places.get(name, name)}{stated}; {why}. Choose a preset that fits.")


def _camera(names: tuple[str, ...], chosen: Preset, options: RecordedOptions) -> str:
    """The model's camera that is meant by one of these names."""
    for name in names:
        if name in chosen.model.cameras:
            return name
    for camera, others in CAMERAS.items():
        if camera in chosen.model.cameras and any(name in others for name in names):
            return camera
    raise _contradiction(
        options,
        "cameras",
        f"preset {chosen.name} has the cameras {', '.join(chosen.model.cameras)}",
        "/".join(names),
    )


def _is_like(value: Any, present: Any, choices: Sequence[str] | None) -> bool:
    """Whether a recorded value has the type of the present one, or is a choice; entries of sequences are plain."""
    if choices is not None:
        return value in choices
    if isinstance(present, tuple):
        return isinstance(value, tuple) and all(isinstance(entry, str | int | bool) for entry in value)
    return type(value) is type(present) and (not isinstance(value, int) or 0 < value < 2**20)


def _replaced(chosen: Preset, changes: Mapping[str, Any], of_model: Mapping[str, Any]) -> Preset:
    try:
        return dataclasses.replace(chosen, model=dataclasses.replace(chosen.model, **of_model), **changes)
    except ValueError as error:
        raise CheckpointError(f"The checkpoint does not fit preset {chosen.name}: {error}") from error
