"""Learning rates over time and the optimisers of the published training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

Schedule: TypeAlias = Callable[[jax.Array | int], jax.Array]
"""From the number of steps done to the learning rate of the next one."""


@dataclass(frozen=True)
class CosineDecay:
    """Linear warm-up to `peak`, then half a cosine down to `final`, then constant."""

    peak: float = 2.5e-5
    warmup_steps: int = 1000
    """The first step already has peak / (warmup_steps + 1)."""
    decay_steps: int = 30_000
    """Step at which `final` is reached, warm-up included."""
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
class InverseRootDecay:
    """Linear warm-up to `peak`, then peak / sqrt(1 + k / timescale) for the k-th step behind it."""

    peak: float = 5e-5
    warmup_steps: int = 1000
    timescale: float = 10_000.0

    def schedule(self) -> Schedule:
        """The learning rate by step."""
        start = self.peak / (self.warmup_steps + 1)
        warmup = optax.linear_schedule(start, self.peak, self.warmup_steps)

        def decay(step: jax.Array | int) -> jax.Array:
            return self.peak / jnp.sqrt((self.timescale + step) / self.timescale)

        return optax.join_schedules([warmup, decay], [self.warmup_steps])


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay on every parameter, behind clipping of the gradients' norm."""

    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-10
    clip_norm: float = 1.0

    def transformation(self, rate: Schedule) -> optax.GradientTransformation:
        """What updates the parameters."""
        adam = optax.adamw(rate, b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), adam)


@dataclass(frozen=True)
class Sgd:
    """Gradient descent with momentum, without clipping."""

    momentum: float = 0.9

    def transformation(self, rate: Schedule) -> optax.GradientTransformation:
        """What updates the parameters."""
        return optax.sgd(rate, momentum=self.momentum)
