"""Observations as the clients of published policy servers send them, by robot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from pydantic import ConfigDict, TypeAdapter, ValidationError

from simloop.harness.adapters.aloha import RAW_ALOHA
from simloop.harness.adapters.base import ANY_ROBOT
from simloop.harness.adapters.droid import DROID
from simloop.harness.adapters.libero import PANDA
from simloop.harness.adapters.metaworld import SAWYER
from simloop.harness.adapters.openpi_observation import RobotConvention
from simloop.harness.adapters.served import MANISKILL_PANDA
from simloop.harness.errors import SpecificationError
from simloop.policies.interface import PolicySpec, Query
from simloop.policies.transforms.preprocessing import resize_with_pad
from simloop.untrusted import read_toml

IMAGE_HW = (224, 224)
"""Size to which the published clients resize images, with black padding."""


@dataclass(frozen=True)
class ServedRobot:
    """What servers of policies for a robot expect of their clients."""

    robot: str
    """Robot convention, for which suites have adapters. States and actions travel as the robot has them."""
    convention: RobotConvention
    """Names of images and vectors in openpi's observations."""
    channels_first: bool = False
    """Whether images travel as [3, h, w]."""

    def spec(self, name: str) -> PolicySpec:
        """Interface of a policy for this robot about which nothing else is known."""
        optional = self.convention.optional_cameras
        return PolicySpec(
            name=name,
            robot=self.robot,
            weights="unknown",
            cameras=tuple(camera for camera in self.convention.cameras if camera not in optional),
            image_hw=IMAGE_HW,
            state_size=self.convention.state_size,
            action_size=self.convention.action_size,
            chunk_steps=None,
        )

    def observation(self, query: Query, image_hw: tuple[int, int] | None = IMAGE_HW) -> dict[str, Any]:
        """Return the observation of openpi's client for a query. `image_hw` is the size of images, None to keep it."""
        found: dict[str, Any] = {"prompt": query.instruction}
        for camera, image in query.images.items():
            folder, slash, name = self.convention.cameras[camera].partition("/")
            resized = image if image_hw is None else resize_with_pad(image, *image_hw)
            if self.channels_first:
                found.setdefault(folder, {})[name] = np.ascontiguousarray(resized.transpose(2, 0, 1))
            else:
                found[folder + slash + name] = resized
        first = 0
        for key, size in self.convention.state.items():
            found[key] = query.state[first : first + size]
            first += size
        return found

    def vla_eval_observation(self, query: Query) -> dict[str, Any]:
        """Return the observation of vla-evaluation-harness for a query, with images as they are rendered."""
        names = VLA_EVAL_CAMERAS.get(self.robot, self.convention.cameras)
        images = {names[camera]: raw_image(image) for camera, image in query.images.items()}
        return {"images": images, "task_description": query.instruction, "states": query.state}


def raw_image(image: UInt8[np.ndarray, "h w 3"]) -> dict[str, Any]:
    """Encode an image for vla-evaluation-harness without compression, which costs milliseconds."""
    return {"__image__": True, "format": "raw", "data": image.tobytes(), "shape": image.shape, "dtype": "|u1"}


_ONE_ARM = {"base_0_rgb": "agentview", "left_wrist_0_rgb": "wrist"}
_TWO_ARMS = {"base_0_rgb": "top", "left_wrist_0_rgb": "left_wrist", "right_wrist_0_rgb": "right_wrist"}
VLA_EVAL_CAMERAS: Mapping[str, Mapping[str, str]] = {
    "libero": _ONE_ARM,
    "droid": _ONE_ARM,
    "aloha": _TWO_ARMS,
    "aloha_raw": _TWO_ARMS,
    "metaworld": _ONE_ARM,
    "metaworld_hand": _ONE_ARM,
    "maniskill_panda": _ONE_ARM,
}
"""Names of images in observations of vla-evaluation-harness, by robot convention and model camera name."""

ROBOTS: Mapping[str, ServedRobot] = {
    "libero": ServedRobot("libero", PANDA),
    "droid": ServedRobot("droid", DROID),
    "aloha": ServedRobot("aloha_raw", RAW_ALOHA, channels_first=True),
    "metaworld": ServedRobot("metaworld", SAWYER),
    "metaworld_hand": ServedRobot("metaworld_hand", SAWYER),
    "maniskill_panda": ServedRobot("maniskill_panda", MANISKILL_PANDA),
}
"""Robots by the name that `robot=` takes."""


@dataclass(frozen=True)
class RobotTable:
    """The table `[robots.NAME]` of an experiment file: what a server expects that none of `ROBOTS` describes."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    state: Mapping[str, int]
    """Sizes of the vectors that make the state, by their keys in the observation, in order."""
    action_size: int
    cameras: Mapping[str, str] = field(default_factory=dict)
    """Keys of images in the observation by camera: of the suite, or as the adapter of `robot` names them."""
    robot: str = ANY_ROBOT
    """Robot convention, for which the suite has an adapter; by default cameras, state and actions of the suite."""
    channels_first: bool = False
    """Whether images travel as [3, h, w]."""

    def served(self) -> ServedRobot:
        """The robot that the table describes."""
        convention = RobotConvention(cameras=self.cameras, state=self.state, action_size=self.action_size)
        return ServedRobot(self.robot, convention, self.channels_first)


_TABLES = TypeAdapter(dict[str, RobotTable])
ROBOT_FILE = re.compile(r"(?P<file>.+\.toml):(?P<name>[\w-]+)")


def robot_of(written: str, folder: Path = Path()) -> ServedRobot:
    """The robot of a name in `ROBOTS`, or of the table `[robots.NAME]` that `FILE.toml:NAME` denotes.

    Args:
      folder: Where relative paths begin.

    Raises:
      SpecificationError: If there is none.
    """
    if written in ROBOTS:
        return ROBOTS[written]
    named = ROBOT_FILE.fullmatch(written)
    if named is None:
        raise SpecificationError(
            f"Which observations a server takes is not told by it. Add ?robot= with one of {', '.join(ROBOTS)}, or "
            f"FILE.toml:NAME of a table [robots.NAME]; got {written!r}."
        )
    file = folder / named["file"]
    try:
        tables = _TABLES.validate_python(read_toml(file, error=SpecificationError).get("robots", {}))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise SpecificationError(f"The robots of {file} cannot be read: {problems}.") from error
    if named["name"] not in tables:
        raise SpecificationError(
            f"{file} has no [robots.{named['name']}]; it has {', '.join(tables) or 'no robots'}."
        )
    return tables[named["name"]].served()
