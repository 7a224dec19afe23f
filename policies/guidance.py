"""How much each step of a chunk is guided by the actions that are executed while it is computed. Needs no JAX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float32

from simloop.policies.interface import GuidanceMethod

Schedule = Literal["zeros", "ones", "linear", "exp"]

DelayDistribution = Literal["uniform", "exponential"]
"""Distributions of the delays that a policy is trained for (arXiv:2512.05964)."""

GUIDANCE_SCHEDULES: Mapping[GuidanceMethod, Schedule] = {
    "full": "exp",
    "identity": "linear",
    "trained": "zeros",
}
"""Schedules of the paper (arXiv:2506.07339), of LeRobot, and of trained conditioning (arXiv:2512.05964)."""


def prefix_weights(delay: int, end: int, steps: int, schedule: Schedule) -> Float32[np.ndarray, "{steps}"]:
    """Return the weight of each step of a chunk: 1 before `delay`, then decaying to 0 at `end`.

    Args:
      delay: Steps that are executed before the chunk can take effect; lowered to `end`.
      end: Steps for which there are actions to agree with.
      steps: Steps of the chunk.
      schedule: Weights from `delay` to `end`: `zeros` none, `ones` 1, `linear` and `exp` decaying.
    """
    delay, at = min(delay, end), np.arange(steps)
    ramp = np.clip((end - at) / (end - delay + 1), 0.0, 1.0)
    decay = {
        "zeros": np.zeros(steps),
        "ones": np.ones(steps),
        "linear": ramp,
        "exp": ramp * np.expm1(ramp) / np.expm1(1.0),
    }[schedule]
    return np.where(at < delay, 1.0, np.where(at < end, decay, 0.0)).astype(np.float32)
