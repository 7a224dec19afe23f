"""Explanations of recorded queries (`simloop explain`), as the pages of episodes read them.

A file per explained query, beside the step records of the episode.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from simloop.results.errors import ResultsError
from simloop.results.records.paths import images_folder
from simloop.results.records.records import EpisodeKey
from simloop.results.records.step_records import RecordedQuery
from simloop.untrusted import UntrustedInputError, inside, read_json_object

VERSION = 1
FOLDER = "explained"
"""Folder of the explanations within that of the episode's step records."""
MAX_BYTES = 16 << 20
MAX_SIDE = 64
"""Patches in a row of an image; published models have 16."""


class ExplanationFileError(ResultsError):
    """A file of an explanation that cannot be read."""


@dataclass(frozen=True)
class CameraAttention:
    """What the tokens of actions, or of the answer, take from each patch of a camera."""

    camera: str
    side: int
    """Patches in a row, and in a column."""
    weights: tuple[float, ...]
    """Attention rollout of every patch, row by row; the mean over action tokens."""


@dataclass(frozen=True)
class CameraDistance:
    """Distance of the image of one camera from those of the training data."""

    camera: str
    distance: float
    percentile: float
    median: float
    largest: float


@dataclass(frozen=True)
class StoredExplanation:
    """The explanation of one query. Fields that hold plain values follow `simloop.policies.explaining`."""

    query: int
    """Number of the query in the episode."""
    step: int
    key: int
    """Key of the noise of the query, by which it is recognized."""
    policy: str
    instruction: str
    cameras: tuple[CameraAttention, ...]
    shares: dict[str, float]
    """Share of each camera, of the prompt and of the state in what actions take from their inputs."""
    words: tuple[tuple[str, float], ...]
    """Share of each word in what actions take from the prompt."""
    draws: int
    """Chunks from which the spread was computed."""
    spread: tuple[tuple[float, ...], ...]
    """Standard deviation of every entry of the chunk, [steps][actions], in the convention of the policy."""
    differs: float | None
    """Root mean square distance of the recorded chunk from the one computed anew, in units of the spread."""
    speeds: tuple[float, ...] | None
    answer: tuple[dict[str, Any], ...] | None
    sensitivities: tuple[dict[str, Any], ...]
    state: tuple[dict[str, Any], ...]
    actions: tuple[dict[str, Any], ...]
    images: tuple[CameraDistance, ...] = ()
    """Empty where the checkpoint has no statistics of training images, and in files of older versions."""

    def to_json(self) -> str:
        """Serialize; numbers that JSON does not know become null."""
        return json.dumps(_finite({"version": VERSION, **dataclasses.asdict(self)}), indent=1)

    def explains(self, query: RecordedQuery) -> bool:
        """Whether this is an explanation of a recorded query, and its arrays have the right sizes."""
        steps, *size = query.chunk.shape
        return (
            self.key == query.key
            and all(len(camera.weights) == camera.side**2 <= MAX_SIDE**2 for camera in self.cameras)
            and len(self.spread) in (0, steps)
            and all([len(row)] == size for row in self.spread)
        )


def explanation_path(key: EpisodeKey, query: int) -> str:
    """Path of the explanation of a query within a run folder."""
    return f"{images_folder(key)}/{FOLDER}/query-{query:04d}.json"


def explanations_of(
    run: Path, key: EpisodeKey, queries: tuple[RecordedQuery, ...]
) -> dict[int, StoredExplanation]:
    """Explanations of the recorded queries of an episode; files of other queries and damaged ones are left out."""
    found = {}
    for query in queries:
        try:
            path = inside(run, explanation_path(key, query.query))
            if not path.is_file():
                continue
            explanation = read_explanation(path)
        except (ExplanationFileError, UntrustedInputError):
            continue
        if explanation.query == query.query and explanation.explains(query):
            found[query.query] = explanation
    return found


def read_explanation(path: Path) -> StoredExplanation:
    """Read the explanation of a query.

    Raises:
      ExplanationFileError: If the file is damaged, foreign or of another version.
    """
    remedy = "Compute it again with simloop explain."
    content = read_json_object(path, limit=MAX_BYTES, remedy=remedy, error=ExplanationFileError)
    version = content.pop("version", None)
    if version != VERSION:
        raise ExplanationFileError(f"{path} has version {version}; this simloop reads {VERSION}. {remedy}")
    try:
        return TypeAdapter(StoredExplanation).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ExplanationFileError(f"{path}: {where}: {first['msg']}. {remedy}") from error


def _finite(value: Any) -> Any:
    """The value with None in place of nan and infinite numbers."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
