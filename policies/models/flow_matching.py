"""Flow matching: noise, flow times and targets (arXiv:2410.24164).

Flow time runs from 0 (actions) to 1 (noise).

Axis letters: b batch, c chunk steps, a padded action size, t flow times of a row: one, or one per chunk step.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32

from simloop.policies.guidance import DelayDistribution

SHORTEST_PERIOD, LONGEST_PERIOD = 4e-3, 4.0
"""Periods of the sines that embed flow time."""


def flow_target(
    actions: Float32[Array, "b c a"], noise: Float32[Array, "b c a"], time: Float32[Array, "b *t"]
) -> tuple[Float32[Array, "b c a"], Float32[Array, "b c a"]]:
    """Return noisy actions on the straight line from actions (time 0) to noise (time 1), and its velocity."""
    t = per_step(time)[..., None]
    return t * noise + (1.0 - t) * actions, noise - actions


def per_step(time: Float32[Array, "b *t"]) -> Float32[Array, "b _t"]:
    """Return flow times with an axis of chunk steps, of length 1 where all steps of a row have the same time."""
    return time if time.ndim == 2 else time[:, None]


def embed_time(time: Float32[Array, "*b"], width: int) -> Float32[Array, "*b {width}"]:
    """Embed flow time by sines, then cosines, at periods between 4e-3 and 4 in geometric progression."""
    fraction = jnp.linspace(0.0, 1.0, width // 2, dtype=jnp.float32)
    period = SHORTEST_PERIOD * (LONGEST_PERIOD / SHORTEST_PERIOD) ** fraction
    angle = time[..., None] * jnp.expand_dims(1.0 / period * 2.0 * jnp.pi, range(time.ndim))
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def noise_from_keys(keys: Array, action_horizon: int, action_dim: int) -> Float32[Array, "b c a"]:
    """Draw standard normal noise with a key per row, so that the noise of a row depends on nothing else.

    Args:
      keys: Typed keys [b] or raw threefry keys uint32 [b, 2].
      action_horizon: Steps of the chunk.
      action_dim: Padded action size.
    """
    return jax.vmap(lambda key: jax.random.normal(key, (action_horizon, action_dim), jnp.float32))(keys)


def training_noise_and_time(
    key: Array, batch: int, action_horizon: int, action_dim: int
) -> tuple[Float32[Array, "b c a"], Float32[Array, " b"]]:
    """Draw noise and flow times of one training step as the published training does.

    The first of the three keys that `key` is split into is left to image augmentation.
    """
    _, noise_key, time_key = jax.random.split(key, 3)
    noise = jax.random.normal(noise_key, (batch, action_horizon, action_dim), jnp.float32)
    return noise, training_times(time_key, batch)


def training_times(key: Array, batch: int) -> Float32[Array, " b"]:
    """Draw flow times to train at: 0.001 + 0.999 · Beta(1.5, 1), which favours times near noise."""
    return jax.random.beta(key, 1.5, 1.0, (batch,), jnp.float32) * 0.999 + 0.001


def training_delays(
    key: Array, shape: tuple[int, ...], longest: int, distribution: DelayDistribution
) -> Int32[Array, "*b"]:
    """Draw delays of 0 to `longest` control steps: equally likely, or each e times as likely as the next longer one."""
    steepness = {"uniform": 0.0, "exponential": 1.0}[distribution]
    logits = -steepness * jnp.arange(longest + 1, dtype=jnp.float32)
    return jax.random.categorical(key, logits, shape=shape).astype(jnp.int32)


def committed_times(
    time: Float32[Array, "*b"], delays: Int32[Array, "*b"], steps: int
) -> Float32[Array, "*b {steps}"]:
    """Return the flow time of every chunk step: 0 before the delay, where actions are given, then that of the row."""
    at = jnp.expand_dims(jnp.arange(steps), range(delays.ndim))
    return jnp.where(at < delays[..., None], 0.0, time[..., None])
