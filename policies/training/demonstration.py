"""A recorded episode, before it becomes part of a dataset.

Axis letters: t steps, s state size, a action size, p size of the environment's state, h image height,
w image width, n samples, d entries.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from simloop.policies.training.dataset_layout import DatasetError
from simloop.untrusted import arrays_from_npz, parse_json

DEMONSTRATIONS = "demonstrations"
"""Entry of a checkpoint's settings with the seeds that it was trained on, by `suite/task`."""

IMAGE_STATS_EVERY = 10  # Frames; neighbouring ones are nearly equal.

FeatureStats = dict[str, list]
"""`min`, `max`, `mean`, `std`, `count` and five quantiles, as LeRobot stores them."""


@dataclass(frozen=True)
class Demonstration:
    """Observations and actions of an expert in one episode, with encoded videos."""

    suite: str
    task: str
    episode: int
    """Index of the attempt at the task, from which the seed is derived."""
    seed: int
    instruction: str
    success: bool
    states: Float32[np.ndarray, "t s"]
    actions: Float32[np.ndarray, "t a"]
    """The expert's actions; executed actions differ from them if noise was added."""
    environment_states: Float32[np.ndarray, "t p"]
    """The simulator's state of all objects, which policies do not observe. p may be 0."""
    videos: Mapping[str, bytes]
    """mp4 file of t frames by camera."""
    image_stats: Mapping[str, FeatureStats]
    """Statistics of each camera's colours in [0, 1]."""
    labels: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Further columns of the episode's metadata, such as the policy that played it."""

    @property
    def length(self) -> int:
        """Number of steps."""
        return self.states.shape[0]

    def to_bytes(self) -> bytes:
        """Serialize; `demonstration_from` reads the result."""
        metadata = {
            "suite": self.suite,
            "task": self.task,
            "episode": self.episode,
            "seed": self.seed,
            "instruction": self.instruction,
            "success": self.success,
            "image_stats": dict(self.image_stats),
            "labels": dict(self.labels),
        }
        arrays: dict[str, Any] = {
            "words": np.frombuffer(json.dumps(metadata).encode(), np.uint8),
            "states": self.states,
            "actions": self.actions,
            "environment_states": self.environment_states,
            **{f"video {name}": np.frombuffer(video, np.uint8) for name, video in self.videos.items()},
        }
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()


def demonstration_from(content: bytes) -> Demonstration:
    """Deserialize the result of `Demonstration.to_bytes`.

    Raises:
      DatasetError: If the bytes are damaged or something else.
    """
    try:
        arrays = arrays_from_npz(content)
        metadata = parse_json(arrays["words"].tobytes(), "its metadata")
        videos = {
            name.removeprefix("video "): arrays[name].tobytes()
            for name in arrays
            if name.startswith("video ")
        }
        vectors: dict[str, Any] = {name: arrays[name] for name in ("states", "actions", "environment_states")}
        return Demonstration(**vectors, videos=videos, **metadata)
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"A recorded demonstration is damaged ({error}). Remove its file and repeat the command to record it again."
        ) from error


def feature_stats(x: Float[np.ndarray, "n d"]) -> FeatureStats:
    """Statistics of each entry under LeRobot's names."""
    quantiles = np.quantile(x, [0.01, 0.1, 0.5, 0.9, 0.99], axis=0)
    return {
        "min": x.min(axis=0).tolist(),
        "max": x.max(axis=0).tolist(),
        "mean": x.mean(axis=0).tolist(),
        "std": x.std(axis=0).tolist(),
        "count": [len(x)],
        **{
            name: value.tolist()
            for name, value in zip(("q01", "q10", "q50", "q90", "q99"), quantiles, strict=True)
        },
    }


def image_stats(frames: list[UInt8[np.ndarray, "h w 3"]]) -> FeatureStats:
    """Statistics of each colour in [0, 1], in LeRobot's shape [3, 1, 1]; `count` counts frames."""
    pixels = np.stack(frames).reshape(-1, 3).astype(np.float64) / 255.0
    stats = feature_stats(pixels)
    shaped = {name: [[[value]] for value in values] for name, values in stats.items() if name != "count"}
    return {**shaped, "count": [len(frames)]}
