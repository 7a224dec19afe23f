"""Functions of models that return what happens on the way to an answer. Nothing is computed a second way: they call the
functions that policies answer with, and read what those leave behind.

Axis letters: n noises, m flow steps, l layers, b batch, h heads, p prefix tokens, t suffix tokens, s slots, c chunk
steps, a padded action size, k tokens of an answer, v vocabulary.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float32, Int32

from simloop.policies.models.kv_cache import KVCache
from simloop.policies.models.model_input import AnyArray, ModelInput
from simloop.policies.models.parameters import Model
from simloop.policies.models.pi0 import Pi0, Schedule
from simloop.policies.models.pi0_fast import Pi0Fast
from simloop.policies.models.pytrees import pytree

M = TypeVar("M", bound=Model)


@pytree
class FlowPaths:
    """Ways of noise to actions for one query."""

    x: Float32[Array, "n m1 c a"]
    """Noisy actions before the first flow step and after each; the last are the actions."""
    onto_slots: Float32[Array, "n m l b h t s"] | None
    """Attention of state and actions at every flow step: to themselves, then to the prefix. None unless kept."""
    of_prefix: Float32[Array, "l b h p p"] | None
    """Attention of the prefix to itself; None unless kept."""


@pytree
class ReadAnswer:
    """Logits and attention of one pass over prompt and answer."""

    logits: Float32[Array, "b k1 v"]
    """Of the first token of the answer, and after each."""
    attention: Float32[Array, "l b h t s"]
    """Of the padded prompt, aligned to the right, and the answer."""


def keeping_attention(model: M) -> M:
    """Return the model with a plan that keeps attention; it shares all weights."""
    kept: M = nnx.merge(*nnx.split(model))
    plan = dataclasses.replace(model.plan, keep_attention=True, keys_only=False)
    kept.plan = kept.transformer.plan = plan
    return kept


def flow_paths(
    model: Pi0, schedule: Schedule, batch: ModelInput, noises: Float32[AnyArray, "n c a"]
) -> FlowPaths:
    """Integrate one query, a batch of one row, from several noises; cameras and prompt are read once."""
    prefix = model.read_prefix(batch)

    def path(noise: Float32[Array, "c a"]) -> tuple[Array, Array | None]:
        def step(x: Array, at: tuple) -> tuple[Array, tuple[Array, Array | None]]:
            time, features = at
            x, read = model.euler_step(prefix, batch.state, x, time, schedule.step_size, features)
            return x, (x[0], _attention(read.cache))

        _, (x, attention) = jax.lax.scan(step, noise[None], (schedule.time, schedule.features))
        return jnp.concatenate([noise[None], x]), attention

    x, attention = jax.vmap(path)(jnp.asarray(noises))
    return FlowPaths(x, attention, _attention(prefix.cache))


def read_answer(model: Pi0Fast, batch: ModelInput, answer: Int32[AnyArray, " k"]) -> ReadAnswer:
    """Read a prompt, a batch of one row, and its answer in one pass. The model must keep attention."""
    logits, prompt = model.read_with_forced_prefix(model.embed_prefix(batch), len(answer), answer)
    attention = _attention(prompt.cache)
    assert attention is not None
    return ReadAnswer(logits.astype(jnp.float32), attention)


def _attention(cache: KVCache) -> Array | None:
    return jnp.stack(cache.attention) if isinstance(cache.attention, tuple) else cache.attention
