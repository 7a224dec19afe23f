"""What an explanation of one answer holds.

Axis letters: n draws, m flow steps, c chunk steps, a action size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8

from simloop.policies.explaining.answers import AnswerToken
from simloop.policies.explaining.attention import Attention
from simloop.policies.explaining.distances import Distance, ImageDistance
from simloop.policies.interface import Query


@dataclass(frozen=True)
class Sensitivity:
    """Change of a chunk with the same noise when something in the inputs is changed."""

    name: str
    change: float | None
    """Root mean square change over steps and dimensions, in units of the spread, both normalized as in training; None
    if no chunk was answered, or nothing varies with the noise."""
    by_action: tuple[float | None, ...]
    """The same for every action dimension."""


@dataclass(frozen=True, eq=False)
class Flow:
    """The way from noise to actions."""

    x: Float32[np.ndarray, "m1 c a"]
    """Noisy actions, normalized and padded, before the first flow step and after each."""
    times: Float[np.ndarray, " m1"]
    """Flow time of each, from 1 (noise) to 0 (actions)."""
    speeds: Float[np.ndarray, " m"]
    """Root mean square of the velocity at each flow step."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a policy answered a query as it did."""

    query: Query
    images: Mapping[str, UInt8[np.ndarray, "_h _w 3"]]
    """By camera, as the model gets them after resizing."""
    chunk: Float32[np.ndarray, "c a"]
    """The answer in robot units, computed anew."""
    attention: Attention
    draws: Float32[np.ndarray, "n c a"]
    """Chunks in robot units for different noise or, of token models, drawn at temperature 1."""
    flow: Flow | None
    """None for token models."""
    answer: tuple[AnswerToken, ...] | None
    """None for flow models."""
    sensitivities: tuple[Sensitivity, ...]
    state: tuple[Distance, ...]
    actions: tuple[Distance, ...]
    cameras: tuple[ImageDistance, ...] = ()
    """Distance of the images from the training data; empty if the checkpoint does not record statistics of them."""

    @property
    def spread(self) -> Float[np.ndarray, "c a"]:
        """Standard deviation of every entry of the chunk over the draws."""
        return self.draws.astype(np.float64).std(axis=0)
