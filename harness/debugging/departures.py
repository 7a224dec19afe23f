"""Compare two records of one episode: the first point at which they differ, in which quantities and by how much."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simloop.envs.env_state import EnvState
from simloop.results.records.step_records import RecordedQuery, RecordedStep


@dataclass(frozen=True)
class Finding:
    """The result of one part of a replay, in a sentence."""

    equal: bool | None
    """None where something prevented the comparison."""
    text: str


Differing = list[tuple[str, str]]
"""Quantities that differ, with by how much."""


@dataclass(frozen=True)
class Departure:
    """The first point at which a replay differs from the record."""

    step: int
    """Control steps that were executed before."""
    quantities: tuple[tuple[str, str], ...]
    """Names of what differs there, with by how much."""
    at_query: bool = False
    """Whether it is what a query shows or contains, before the step is executed."""

    def __str__(self) -> str:
        place = f"the query before step {self.step}" if self.at_query else f"step {self.step}"
        return f"{place}: " + ", ".join(f"{name} {by}".strip() for name, by in self.quantities)


def first_departure(
    recorded: Sequence[RecordedQuery], replayed: Sequence[RecordedQuery], *, images: bool
) -> Departure | None:
    """Return where a replay first departs from the record; None if they are equal.

    Args:
      images: Whether hashes of images must agree, as on the same renderer.
    """
    for mine, other in zip(recorded, replayed, strict=False):
        if differing := _query_differs(mine, other, images=images):
            return Departure(mine.step, tuple(differing), at_query=True)
        for step, again in zip(mine.steps, other.steps, strict=False):
            if differing := _fields_differ(step, again):
                return Departure(step.step, tuple(differing))
        if len(mine.steps) != len(other.steps):
            counts = f"executes {len(other.steps)} actions of the chunk; recorded {len(mine.steps)}"
            return Departure(mine.step + min(len(mine.steps), len(other.steps)), (("the replay", counts),))
    if len(recorded) != len(replayed):
        counts = f"makes {len(replayed)} queries; recorded {len(recorded)}"
        longer = max(recorded, replayed, key=len)
        return Departure(longer[min(len(recorded), len(replayed))].step, (("the replay", counts),))
    return None


def state_differs(recorded: bytes, replayed: EnvState) -> Differing:
    """Compare a recorded state of an environment with that of a replay."""
    if recorded == replayed.to_bytes():
        return []
    state = EnvState.from_bytes(recorded)
    found = _value_differs("simulator state", state.physics, replayed.physics)
    for name in sorted({*state.values, *replayed.values}):
        found += _value_differs(name, state.values.get(name), replayed.values.get(name))
    return found or [("saved state", "in another field")]


def _query_differs(mine: RecordedQuery, other: RecordedQuery, *, images: bool) -> Differing:
    found = state_differs(mine.env_state, EnvState.from_bytes(other.env_state))
    for name in ("step", "key", "instruction", "state", "privileged"):
        found += _value_differs(f"{name} of the query", getattr(mine, name), getattr(other, name))
    if images and mine.images_sha256 != other.images_sha256:
        changed = [
            str(number)
            for number, (a, b) in enumerate(
                itertools.zip_longest(mine.images_sha256, other.images_sha256), start=1
            )
            if a != b
        ]
        found.append((f"pixels of image {' and '.join(changed)}", ""))
    return found


def _fields_differ(mine: RecordedStep, other: RecordedStep) -> Differing:
    found: Differing = []
    for name, value in vars(mine).items():
        again = getattr(other, name)
        if value is not None and again is not None:
            found += _value_differs(NAMES.get(name, name), value, again)
    return found


NAMES = {
    "action": "action of the policy",
    "executed": "executed action",
    "state_sha256": "hash of the simulator state",
    "time_s": "simulated time",
    "state": "proprioceptive state",
}
"""Words for fields of `RecordedStep` that do not read as one."""


def _value_differs(name: str, mine: Any, other: Any) -> Differing:
    if isinstance(mine, dict) and isinstance(other, dict):
        keys = sorted({*mine, *other})
        return [
            found for key in keys for found in _value_differs(f"pose of {key}", mine.get(key), other.get(key))
        ]
    if _equal(mine, other):
        return []
    return [(name, how_much(mine, other))]


def _equal(mine: Any, other: Any) -> bool:
    if isinstance(mine, np.ndarray) and isinstance(other, np.ndarray):
        return mine.shape == other.shape and mine.tobytes() == other.tobytes()
    if isinstance(mine, np.ndarray) or isinstance(other, np.ndarray):
        return False
    return bool(mine == other) or (mine != mine and other != other)


def how_much(mine: Any, other: Any) -> str:
    """Return by how much two values differ, in words; empty for values without a distance."""
    try:
        a, b = np.asarray(mine, np.float64), np.asarray(other, np.float64)
    except (TypeError, ValueError):
        return ""
    if a.shape != b.shape:
        return f"has shape {b.shape}; recorded {a.shape}"
    distance = np.abs(a - b)
    if np.isnan(distance).any():
        return "is not a number in one of them"
    return f"by up to {distance.max():.3g}"
