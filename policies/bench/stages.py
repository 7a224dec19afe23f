"""Stages of a query as functions of a model, and random batches to run them on.

Their inputs and outputs are the intermediate values of `Pi0.sample_actions` and `Pi0Fast.sample_tokens`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simloop.policies.bench.roofline import QueryWorkload
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import Model
from simloop.policies.models.pi0 import Pi0, ReadPrefix, Schedule
from simloop.policies.models.pi0_fast import Pi0Fast, ReadPrompt
from simloop.policies.models.prefix import Prefix


def embed(model: Model, batch: ModelInput) -> Prefix:
    """Encode the images and look up the prompt's embeddings."""
    return model.embed_prefix(batch)


def prefill(model: Model, prefix: Prefix, answer_tokens: int) -> Any:
    """Process the prefix; returns `ReadPrefix`, or the first token and `ReadPrompt` for token models."""
    if isinstance(model, Pi0Fast):
        logits, read = model.read(prefix, answer_tokens)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32), read
    return model.read(prefix, keys_only=model.plan.keys_only)


def flow_step(model: Pi0, read: ReadPrefix, state: jax.Array, x: jax.Array, schedule: Schedule) -> jax.Array:
    """Integrate the first Euler step of a schedule."""
    time, features = jax.tree.map(lambda leaf: leaf[0], (schedule.time, schedule.features))
    return model.euler_step(read, state, x, time, schedule.step_size, features)[0]


def token(model: Pi0Fast, last: jax.Array, read: ReadPrompt) -> tuple[jax.Array, ReadPrompt]:
    """Decode the token after `last`, the first one of an answer."""
    logits, read = model.decode(read, last, jnp.zeros((), jnp.int32))
    return jnp.argmax(logits, axis=-1).astype(jnp.int32), read


def random_batch(work: QueryWorkload, rows: int) -> ModelInput:
    """Random queries of a workload, whose prompts have no padding."""
    config = work.config
    rng = np.random.default_rng(0)
    size, length = config.image_size, work.prompt_tokens
    cameras = config.cameras[: work.cameras]
    return ModelInput(
        images={camera: rng.integers(0, 256, (rows, size, size, 3), dtype=np.uint8) for camera in cameras},
        image_masks=dict.fromkeys(cameras),
        state=rng.standard_normal((rows, config.action_dim)).astype(np.float32),
        tokens=rng.integers(2, config.vocab_size, (rows, length), dtype=np.int32),
        token_mask=np.ones((rows, length), np.bool_),
    )
