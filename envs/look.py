"""How a scene looks: displaced cameras and other light, for experiments. The physics is not affected."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class CameraOffset:
    """Where a camera is, relative to where the suite has it, in the camera's own frame: right, up, backwards."""

    shift_m: Vector = (0.0, 0.0, 0.0)
    turn_rad: Vector = (0.0, 0.0, 0.0)
    """Rotation vector: axis times angle."""


@dataclass(frozen=True)
class Look:
    """What differs from the look that the suite gives to a scene."""

    cameras: Mapping[str, CameraOffset] = field(default_factory=dict)
    """By name of the camera; others stay where they are."""
    light_turn_rad: Vector = (0.0, 0.0, 0.0)
    """Rotation vector, in the frame of the world, by which all lights are turned about the middle of the scene."""
    brightness: float = 1.0
    """Factor of the intensity of all lights."""

    @property
    def plain(self) -> bool:
        """Whether this is the look that the suite gives."""
        return dataclasses.replace(self, cameras={}) == Look() and set(self.cameras.values()) <= {
            CameraOffset()
        }
