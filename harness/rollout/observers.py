"""Observers: anything that watches an episode while it is played, such as a video recorder.

Axis letters: a action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from simloop.envs.interface import Env
from simloop.harness.rollout.camera_frames import CameraFrames
from simloop.harness.rollout.latency import Reply
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.interface import Query


@dataclass(frozen=True)
class StepRecord:
    """One executed control step."""

    step: int
    """Number of the step in the episode, from 0."""
    action: Float[np.ndarray, "a"]
    """The policy's action in the suite's convention, before the perturbation. The action in the policy's convention is
    row `index_in_chunk` of the chunk that `Observer.on_query` received as number `chunk_index`."""
    executed: Float[np.ndarray, "a"]
    """The action that the environment executed."""
    chunk_index: int
    index_in_chunk: int
    reward: float
    success: bool
    ended: bool
    """Whether this is the last step of the episode."""
    frames: CameraFrames
    """Cameras after the step; an image that the policy needs as well is rendered once."""


class Observer:
    """Watch one episode. Every method is optional; none may change what it is given.

    `on_reset`, `on_query`, `on_step` and `on_end` are called in the order in which things happen; an episode that
    raises has no `on_end`. `close` is called last, in either case.
    """

    def on_reset(self, frames: CameraFrames, env: Env) -> None:
        """Look at the initial state, or at that in which the episode continues."""

    def on_query(self, query: Query, reply: Reply) -> None:
        """Look at a query as the policy received it (perturbed, if the protocol says so), and its answer."""

    def on_step(self, record: StepRecord) -> None:
        """Look at a step that was executed."""

    def on_end(self, result: RolloutResult) -> None:
        """Look at the result of a rollout that was played to its end."""

    def close(self) -> None:
        """Free resources. What was recorded stays readable."""


class Recorder(Observer):
    """An observer that turns an episode into files."""

    def __init__(self) -> None:
        self.attachments: dict[str, bytes] = {}
        """The files, by names as in `simloop.results.records.paths`; complete after `close`."""
