"""Presets: a model of the pi0 family, a robot, and how observations and actions are encoded. Needs no JAX."""

from __future__ import annotations

import difflib

from simloop.policies.presets.base import Preset, PublishedWeights
from simloop.policies.presets.published import PUBLISHED_PRESETS
from simloop.policies.presets.tiny import TINY_PRESETS

__all__ = ["PRESETS", "Preset", "PublishedWeights", "UnknownPresetError", "preset"]

PRESETS: dict[str, Preset] = {one.name: one for one in (*TINY_PRESETS, *PUBLISHED_PRESETS)}
"""All presets by name, the small ones first."""


class UnknownPresetError(LookupError):
    """A preset that does not exist."""

    user_facing = True


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
      UnknownPresetError: If there is none; the message suggests similar names.
    """
    if name not in PRESETS:
        similar = difflib.get_close_matches(name, PRESETS, n=3, cutoff=0.4)
        hint = (
            f"Did you mean {' or '.join(map(repr, similar))}?"
            if similar
            else f"There are: {', '.join(PRESETS)}."
        )
        raise UnknownPresetError(f"There is no preset {name!r}. {hint}")
    return PRESETS[name]
