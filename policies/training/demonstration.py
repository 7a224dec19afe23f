"""One recorded episode, before it becomes part of a dataset.

Axis letters: t steps, s state size, a action size, p size of the state of the environment, h image height,
w image width, n samples, d entries.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

DEMONSTRATIONS = "demonstrations"
"""Entry of a checkpoint's settings: seeds of the episodes that it was trained on, by `suite/task`."""

IMAGE_STATS_EVERY = 10  # Frames; neighbouring ones look alike.

FeatureStats = dict[str, list]
"""`min`, `max`, `mean`, `std`, `count` and five quantiles, as LeRobot keeps them."""


@dataclass(frozen=True)
class Demonstration:
    """What an expert saw and did in one episode, with its pictures encoded."""

    suite: str
    task: str
    episode: int
    """Number of the attempt at the task, from which the seed was derived."""
    seed: int
    instruction: str
    success: bool
    states: Float32[np.ndarray, "t s"]
    actions: Float32[np.ndarray, "t a"]
    """What the expert would do in each state, which is not what was executed where noise was added."""
    environment_states: Float32[np.ndarray, "t p"]
    """Where everything is, as the simulator knows and a policy does not. p may be 0."""
    videos: Mapping[str, bytes]
    """mp4 files of t frames by camera."""
    image_stats: Mapping[str, FeatureStats]
    """Of each camera, per colour in [0, 1]."""

    @property
    def length(self) -> int:
        """Steps."""
        return self.states.shape[0]

    def to_bytes(self) -> bytes:
        """As one file; `demonstration_from` reads it."""
        words = {
            "suite": self.suite,
            "task": self.task,
            "episode": self.episode,
            "seed": self.seed,
            "instruction": self.instruction,
            "success": self.success,
            "image_stats": dict(self.image_stats),
        }
        arrays: dict[str, Any] = {
            "words": np.frombuffer(json.dumps(words).encode(), np.uint8),
            "states": self.states,
            "actions": self.actions,
            "environment_states": self.environment_states,
            **{f"video {name}": np.frombuffer(video, np.uint8) for name, video in self.videos.items()},
        }
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()


def demonstration_from(content: bytes) -> Demonstration:
    """Read what `Demonstration.to_bytes` wrote."""
    with np.load(io.BytesIO(content)) as arrays:
        words = json.loads(arrays["words"].tobytes())
        videos = {
            name.removeprefix("video "): arrays[name].tobytes()
            for name in arrays
            if name.startswith("video ")
        }
        vectors = {name: arrays[name] for name in ("states", "actions", "environment_states")}
        return Demonstration(**vectors, videos=videos, **words)


def feature_stats(x: Float[np.ndarray, "n d"]) -> FeatureStats:
    """Statistics of each entry, in LeRobot's names."""
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
