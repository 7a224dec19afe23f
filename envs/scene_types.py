"""What environments tell about their scenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64


class Pose(NamedTuple):
    """Position and orientation of a body in the world frame."""

    position_m: Float64[np.ndarray, "3"]
    quaternion: Float64[np.ndarray, "4"]
    """Scalar part first."""


class Contact(NamedTuple):
    """A body of a gripper that touches something else."""

    gripper: str
    other: str
    force_n: float
    """Normal force in newtons, summed over the contact points of the pair."""


class GripperPose(NamedTuple):
    """Where a gripper is, and how far it is open."""

    position_m: Float64[np.ndarray, "3"]
    """Middle between the tips of its fingers in the world frame."""
    opening_m: float
    """Distance between the tips."""


@dataclass(frozen=True)
class Scene:
    """What a scene contains at a moment."""

    time_s: float
    """Simulated time in seconds."""
    poses: Mapping[str, Pose]
    """Poses of the things of interest, by name."""
    contacts: tuple[Contact, ...]
    """Contacts of the grippers with anything but themselves."""
    held: tuple[str, ...]
    """Names of the movable things that press against both fingers of a gripper."""
    grippers: tuple[GripperPose, ...] = ()
    """One per arm, in the order of the arms in the state; empty where the suite does not tell."""
