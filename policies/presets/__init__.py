"""Presets: a model of the pi0 family, a robot, and how observations and actions are encoded. Needs no JAX."""

from __future__ import annotations

import dataclasses
import difflib
import re

from simloop.policies.presets.base import Preset, PublishedWeights
from simloop.policies.presets.published import PUBLISHED_PRESETS
from simloop.policies.presets.tiny import TINY_PRESETS

__all__ = ["HORIZON", "PRESETS", "Preset", "PublishedWeights", "UnknownPresetError", "preset"]

PRESETS: dict[str, Preset] = {one.name: one for one in (*TINY_PRESETS, *PUBLISHED_PRESETS)}
"""All presets by name, the small ones first."""


HORIZON = re.compile("h[1-9][0-9]{0,3}")
"""Follows `@` in the name of a preset with another horizon."""


class UnknownPresetError(LookupError):
    """A preset that does not exist."""

    user_facing = True


def preset(name: str) -> Preset:
    """The preset of that name. `NAME@hN` is the preset NAME with chunks of N actions.

    Raises:
      UnknownPresetError: If there is none; the message suggests similar names.
    """
    base, at, horizon = name.partition("@")
    if base not in PRESETS:
        similar = difflib.get_close_matches(base, PRESETS, n=3, cutoff=0.4)
        hint = (
            f"Did you mean {' or '.join(map(repr, similar))}?"
            if similar
            else f"There are: {', '.join(PRESETS)}."
        )
        raise UnknownPresetError(f"There is no preset {base!r}. {hint}")
    if not at:
        return PRESETS[base]
    if not HORIZON.fullmatch(horizon):
        raise UnknownPresetError(
            f"{name!r} is no preset: wanted {base}, or {base}@h50 for chunks of 50 actions."
        )
    one = PRESETS[base]
    model = dataclasses.replace(one.model, action_horizon=int(horizon[1:]))
    return dataclasses.replace(one, name=name, model=model)
