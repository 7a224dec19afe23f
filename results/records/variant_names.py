"""What the names of LIBERO-plus's tasks state: which task of LIBERO, and what was changed in it."""

from __future__ import annotations

import re

UNCHANGED = "original"
_NAME = re.compile(
    r"(?P<task>.+?)(?P<language>_language_\d+)?_view_(?P<view>\d+(?:_\d+){4})_initstate_(?P<posture>\d+)"
    r"(?P<noise>_noise_\d+)?"
)


def split_variant(name: str) -> tuple[str, str]:
    """Split the name of a task into that of LIBERO and the axis of the change; `original` for no change."""
    found = _NAME.fullmatch(name)
    if found is None:
        return name, UNCHANGED
    changed = {
        "language": found["language"],
        "noise": found["noise"],
        "robot": found["posture"] != "0",
        "camera": found["view"] != "0_0_100_0_0",
    }
    return found["task"], next((axis for axis, differs in changed.items() if differs), UNCHANGED)
