"""Learning-rate schedule and optimizer of openpi's published training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import optax

Schedule: TypeAlias = Callable[[jax.Array | int], jax.Array]
"""Maps the number of completed steps to the learning rate of the next one."""


@dataclass(frozen=True)
class CosineDecay:
    """Linear warm-up to `peak`, cosine decay to `final`, then constant."""

    peak: float = 2.5e-5
    warmup_steps: int = 1000
    """Length of the warm-up; the first step has the rate peak / (warmup_steps + 1)."""
    decay_steps: int = 30_000
    """Step at which `final` is reached, counted from the start of the warm-up."""
    final: float = 2.5e-6

    def schedule(self) -> Schedule:
        """The learning rate by step."""
        return optax.warmup_cosine_decay_schedule(
            init_value=self.peak / (self.warmup_steps + 1),
            peak_value=self.peak,
            warmup_steps=self.warmup_steps,
            decay_steps=self.decay_steps,
            end_value=self.final,
        )


@dataclass(frozen=True)
class AdamW:
    """Adam with gradient clipping by global norm and decoupled weight decay on every parameter."""

    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-10
    clip_norm: float = 1.0

    def transformation(self, rate: Schedule) -> optax.GradientTransformation:
        """The optax transformation."""
        adam = optax.adamw(rate, b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), adam)
