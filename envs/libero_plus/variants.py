"""Variants of LIBERO-plus by their published names.

A name states what it changes: `TASK[_language_L]_view_H_V_D_Y_P_initstate_Q[_noise_N]`. Each of the ten tasks of a
group has fifty possible variants of each axis, by a rule; the benchmark consists of a selection of them, which
`published_variants.json` holds as bits.

Reference: S. Fei et al., LIBERO-Plus: In-depth Robustness Analysis of Vision-Language-Action Models (2025),
arXiv:2510.13626.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float64

from simloop.envs.libero.tasks import GROUPS

Axis = Literal["camera", "robot", "language", "noise"]
AXES: tuple[Axis, ...] = get_args(Axis)
GROUPS_VARIED = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
CANDIDATES = 50
"""Possible variants of a task on an axis."""


class View(NamedTuple):
    """How the scene camera is displaced, in the order of application. Angles are 0 to 359 degrees."""

    turn_deg: int = 0
    """About the vertical axis of the world; the camera keeps looking at the axis."""
    tilt_deg: int = 0
    """Upward about the y axis at a height of 0.8 m, before the turn."""
    distance_percent: int = 100
    """Distance from the point (0, 0, 0.8 m)."""
    yaw_deg: int = 0
    """About the vertical axis, in place."""
    pitch_deg: int = 0
    """About the y axis of the world, in place."""


class Variant(NamedTuple):
    """One task of LIBERO with what a name of LIBERO-plus changes; zeros change nothing."""

    task: str
    view: View = View()
    posture: int = 0
    """Number of another posture of the arm, 1 to 500."""
    noise: int = 0
    """Number of a disturbance of the scene camera's images, 1 to 50: ten severities of five kinds."""
    language: int = 0
    """Number of another wording, 1 to 50."""

    @property
    def name(self) -> str:
        """The published name; that of an unchanged task is LIBERO's own."""
        if self == Variant(self.task):
            return self.task
        language = f"_language_{self.language}" if self.language else ""
        noise = f"_noise_{self.noise}" if self.noise else ""
        view = "_".join(map(str, self.view))
        return f"{self.task}{language}_view_{view}_initstate_{self.posture}{noise}"

    @property
    def axis(self) -> Axis | None:
        """What the variant changes; None for the unchanged task."""
        changed: dict[Axis, bool] = {
            "camera": self.view != View(),
            "robot": bool(self.posture),
            "language": bool(self.language),
            "noise": bool(self.noise),
        }
        return next((axis for axis, differs in changed.items() if differs), None)


_NAME = re.compile(
    r"(?P<task>.+?)(?:_language_(?P<language>\d+))?_view_(?P<view>\d+(?:_\d+){4})_initstate_(?P<posture>\d+)"
    r"(?:_noise_(?P<noise>\d+))?"
)


def variant(name: str) -> Variant:
    """Parse the name of a variant or of an unchanged task."""
    found = _NAME.fullmatch(name)
    if found is None:
        return Variant(name)
    posture, noise, language = (int(found[key] or 0) for key in ("posture", "noise", "language"))
    return Variant(found["task"], View(*map(int, found["view"].split("_"))), posture, noise, language)


_SMALL_ANGLES = (2, 4, 6, 8, 10, 350, 352, 354, 356, 358)
_TURNS = (*range(1, 76), *range(285, 360))


def candidates(task: str, place: int, axis: Axis) -> tuple[Variant, ...]:
    """The fifty possible variants of a task on an axis.

    Args:
      place: Number of the task in its group, 0 to 9. Views and postures are divided among the tasks by it.
    """
    numbers = range(1, CANDIDATES + 1)
    match axis:
        case "camera":
            views = (
                *(View(yaw_deg=_SMALL_ANGLES[place], pitch_deg=pitch) for pitch in _SMALL_ANGLES),
                *(View(distance_percent=100 + 10 * place + i) for i in range(1, 11)),
                *(View(turn, tilt) for turn in _TURNS[15 * place :][:15] for tilt in (0, 15)),
            )
            return tuple(Variant(task, view) for view in views)
        case "robot":
            return tuple(Variant(task, posture=10 * i - 9 + place) for i in numbers)
        case "language":
            return tuple(Variant(task, language=i) for i in numbers)
        case "noise":
            return tuple(Variant(task, noise=i) for i in numbers)


@cache
def published_variants() -> dict[tuple[str, Axis], tuple[Variant, ...]]:
    """The variants of the benchmark that need no assets, by group of LIBERO and axis."""
    text = resources.files("simloop.envs.libero_plus").joinpath("published_variants.json").read_text()
    selected = json.loads(text)
    return {
        (group, axis): tuple(
            one
            for place, (task, bits) in enumerate(zip(GROUPS[group], selected[group][axis], strict=True))
            for i, one in enumerate(candidates(task, place, axis))
            if int(bits, 16) >> i & 1
        )
        for group in GROUPS_VARIED
        for axis in AXES
    }


_USUAL_POSTURE = (0.0, -1.61037389e-01, 0.0, -2.44459747e00, 0.0, 2.22675220e00, np.pi / 4)


@cache
def _postures() -> Float64[np.ndarray, "500 7"]:
    """LIBERO-plus draws directions with this generator and prints the postures with eight decimals."""
    directions = np.random.RandomState(42).randn(500, 7)
    directions /= np.array([np.linalg.norm(direction) for direction in directions])[:, None]
    distances = 0.1 * (1 + np.arange(500) // 100)
    return np.round(_USUAL_POSTURE + directions * distances[:, None], 8)


def posture(number: int) -> Float64[np.ndarray, "7"]:
    """Joint angles (rad) of a posture, 0.1 to 0.5 rad away from the usual one, which is number 0."""
    return _postures()[number - 1] if number else np.array(_USUAL_POSTURE)
