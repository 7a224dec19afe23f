"""Trajectories of grippers: where chunks lead, where the robot went, and how cameras see both.

A file of JSON beside the step records of an episode, which `simloop trajectories` computes from them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from simloop.results.errors import ResultsError
from simloop.results.records.paths import trajectories_path
from simloop.results.records.step_records import StepRecords
from simloop.untrusted import inside, read_json_object

Point = tuple[float, float, float, float]
"""Middle between the tips of a gripper in the world frame, then their distance; in metres."""
Path3D = list[list[Point]]
"""By moment, then by gripper."""
Projection = tuple[tuple[float, float, float, float], ...]
"""Matrix [3, 4] from homogeneous points of the world to homogeneous (u, v) in units of the width and the height of an
image, from its upper left corner; the third is the distance along the optical axis in metres."""
Affine = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Matrix [2, 3] from (u, v, 1) of the suite's image to (u, v) of the policy's, both in units of width and height."""


@dataclass(frozen=True)
class Trajectories:
    """Trajectories of one episode. Moment i is after i control steps."""

    actions_sha256: str
    """Hash of the executed actions, by which a file that belongs to other step records is found."""
    executed: Path3D
    """At every moment of the episode."""
    predicted: list[Path3D]
    """By query, from its moment on: what the simulator does if the whole chunk is executed as it is."""
    cameras: dict[str, list[Projection]]
    """By camera of the suite: one for each moment, or one alone if the camera stands still."""
    inputs: dict[str, tuple[str, Affine]]
    """By camera of the policy: the suite's camera, and how the adapter turns its image."""
    video: list[str]
    """Cameras in the video of the episode, left to right; empty if unknown."""
    aspect: float
    """Height of the suite's images divided by their width."""

    def to_bytes(self) -> bytes:
        """Serialize as JSON."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":")).encode()


class TrajectoriesError(ResultsError):
    """A file of trajectories that is damaged, or belongs to another episode."""


def read_trajectories(run: Path, records: StepRecords) -> Trajectories | None:
    """Read the trajectories that lie beside step records; None if they have not been computed.

    Raises:
      TrajectoriesError: If the file is damaged, of other step records, or a link leads out of the run folder.
    """
    path = inside(run, trajectories_path(records.header.key), error=TrajectoriesError)
    if not path.is_file():
        return None
    content: Mapping[str, object] = read_json_object(path, error=TrajectoriesError)
    again = f"Compute them again: simloop trajectories {run}"
    try:
        found = TypeAdapter(Trajectories).validate_python(content)
    except ValidationError as error:
        raise TrajectoriesError(f"{path} cannot be read as trajectories: {error}. {again}") from error
    if found.actions_sha256 != records.actions_sha256:
        raise TrajectoriesError(f"{path} does not belong to the step records beside it. {again}")
    return found
