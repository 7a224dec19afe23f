"""The steps of a session since it was last reset or restored.

Axis letters: a action size, s state size.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float32

from simloop.envs.interface import Env
from simloop.harness.rollout.observers import Observer, StepRecord


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of the session's history."""

    executed: Float32[np.ndarray, "a"]
    reward: float
    state: Float32[np.ndarray, "s"]


class History(Observer):
    """Keep what `Session.plot` draws."""

    def __init__(self, env: Env):
        self.env, self.steps = env, list[Step]()

    def on_step(self, record: StepRecord) -> None:
        self.steps.append(Step(record.executed, record.reward, self.env.state()))
