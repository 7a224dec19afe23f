"""Real-time chunking: a new chunk agrees with the actions that are executed while it is computed.

Every flow step estimates the actions that it leads to and corrects the velocity by their weighted difference to the
target (K. Black et al. (2025), arXiv:2506.07339, in the flow time of this package: 1 noise, 0 actions). The paper
multiplies the difference by the Jacobian of the estimate; LeRobot leaves that of the velocity out. A model that was
trained to continue given actions needs no correction (K. Black et al. (2025), arXiv:2512.05964).

Axis letters: b batch, c chunk steps, a padded action size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32

from simloop.policies.interface import GuidanceMethod
from simloop.policies.models.model_input import AnyArray
from simloop.policies.models.pytrees import pytree

Leaves = TypeVar("Leaves")


@pytree
class Guidance:
    """Targets of a batch; rows with zero weights are not guided."""

    target: Float32[AnyArray, "b c a"]
    """Actions that are executed meanwhile, normalized and padded; anything where the weight is 0."""
    weights: Float32[AnyArray, "b c"]
    """As from `simloop.policies.guidance.prefix_weights`."""


@pytree
class FullGuidance(Guidance):
    """Guidance with the full vector-Jacobian product of the estimate, as in the paper."""


@pytree
class IdentityGuidance(Guidance):
    """Guidance without the Jacobian of the velocity, as in LeRobot."""


@pytree
class CommittedPrefix(Guidance):
    """Steps that a model was trained to continue: where the weight is not 0, the target is given at flow time 0."""

    @property
    def given(self) -> Bool[Array, "b c"]:
        """Whether each step is given."""
        return jnp.asarray(self.weights) > 0

    def times(self, time: Float32[Array, " b"]) -> Float32[Array, "b c"]:
        """Return the flow time of each step: 0 where it is given, else that of the row."""
        return jnp.where(self.given, 0.0, time[:, None])

    def selected(self, of_given: Leaves, of_others: Leaves) -> Leaves:
        """Select arrays (trees of them) that end in axes of rows, steps and features, by whether a step is given."""

        def select(a: AnyArray, b: AnyArray) -> Array:
            given = jnp.expand_dims(self.given[..., None], range(b.ndim - 3))
            return jnp.where(given, a, b)

        chosen: Leaves = jax.tree.map(select, of_given, of_others)
        return chosen

    def step(
        self,
        velocity: Callable[[Float32[Array, "b c a"]], tuple[Float32[Array, "b c a"], Any]],
        x: Float32[Array, "b c a"],
        step_size: Float32[Array, ""],
    ) -> tuple[Float32[Array, "b c a"], Any]:
        """Take an Euler step that leaves given steps as they are; also returns what `velocity` returns beside it.

        Args:
          velocity: Function of noisy actions, at the flow times of `times`.
        """
        target = jnp.asarray(self.target)
        v, beside = velocity(self.selected(target, x))
        return self.selected(target, x + step_size * v), beside


GUIDANCE: Mapping[GuidanceMethod, type[Guidance]] = {
    "full": FullGuidance,
    "identity": IdentityGuidance,
    "trained": CommittedPrefix,
}
CAPS: Mapping[type[Guidance], float] = {FullGuidance: 5.0, IdentityGuidance: 10.0}
"""Upper bounds of the correction of a step: those of the paper and of LeRobot."""


def guided_velocity(
    guidance: Guidance,
    velocity: Callable[[Float32[Array, "b c a"]], tuple[Float32[Array, "b c a"], Any]],
    x: Float32[Array, "b c a"],
    time: Float32[Array, ""],
    cap: float | None = None,
) -> tuple[Float32[Array, "b c a"], Any]:
    """Return the velocity at noisy actions, corrected towards the target, and what `velocity` returns beside it.

    Args:
      guidance: Its class decides about the Jacobian.
      velocity: Function of noisy actions at this time, in float32; differentiated for `FullGuidance`.
      x: Noisy actions.
      time: Flow time of all rows, above 0.
      cap: Upper bound of the guidance; None for that of the class.
    """

    def estimate(x: Float32[Array, "b c a"]) -> tuple[Array, tuple[Array, Any]]:
        v, beside = velocity(x)
        return x - time * v, (v, beside)

    if isinstance(guidance, FullGuidance):
        actions, pullback, (v, beside) = jax.vjp(estimate, x, has_aux=True)
        (correction,) = pullback(_difference(guidance, actions))
    else:
        actions, (v, beside) = estimate(x)
        correction = _difference(guidance, actions)
    cap = CAPS[type(guidance)] if cap is None else cap
    return v - guidance_scale(time, cap) * correction, beside


def guidance_scale(time: Float32[Array, ""], cap: float) -> Float32[Array, ""]:
    """Return the factor of the correction at a flow time; it is symmetric around 0.5 and largest at both ends."""
    remaining, done = time, 1.0 - time
    scale = (done**2 + remaining**2) / jnp.maximum(done * remaining, 1e-12)
    return jnp.minimum(scale, cap)


def _difference(guidance: Guidance, actions: Float32[Array, "b c a"]) -> Float32[Array, "b c a"]:
    return (jnp.asarray(guidance.target) - actions) * jnp.asarray(guidance.weights)[..., None]
