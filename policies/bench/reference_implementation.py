"""A plain implementation of openpi's inference, to compare answers and times with.

After `Pi0.sample_actions`: one call of the image encoder per camera, masked cameras included, prompts padded
to the longest, a loop over layers, keys and values of prefix and suffix concatenated in every layer of every
step, and flow time embedded in every step. After `Pi0FAST.sample_actions`: logits of the whole prefix, a cache
that is carried through a loop over layers for every token, and generation that ends when all rows end in the
same step. Weights and the parts of a layer are those of simloop's models, so only their composition differs.

Axis letters: b batch, p prefix tokens, q query tokens, l layers, s slots, k key heads, h head width, c chunk
steps, a padded action size, m generated tokens.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int32

from simloop.policies.bench.roofline import QueryWorkload
from simloop.policies.bench.stages import random_batch
from simloop.policies.inference.flat_jit import compiled
from simloop.policies.inference.model_policy import ModelPolicy
from simloop.policies.models.attention import attend, block_mask, rotate, rotation
from simloop.policies.models.flow_matching import noise_from_keys
from simloop.policies.models.kv_cache import write
from simloop.policies.models.model_input import AnyArray, ModelInput, image_as_float
from simloop.policies.models.parameters import Model, flatten, model_from
from simloop.policies.models.pi0 import Pi0
from simloop.policies.models.pi0_fast import END_TOKEN, Pi0Fast, align_right
from simloop.policies.models.prefix import positions_of_valid

PAIRS = 3


def sample_actions(
    model: Pi0, batch: ModelInput, noise: Float32[AnyArray, "b c a"], num_steps: int
) -> Float32[Array, "b c a"]:
    """Integrate actions by Euler steps. The batch must hold all cameras of the model, masked ones included."""
    prefix, seen = _prefix(model, batch)
    mask = block_mask(seen, np.zeros(seen.shape[1], np.bool_))
    _, cache = _forward(model, [prefix, None], positions_of_valid(seen), mask, None, None)
    step_size = jnp.float32(-1.0 / num_steps)

    def step(carry: tuple) -> tuple:
        x, at = carry
        suffix = model.embed_suffix(batch.state, x, jnp.broadcast_to(at, x.shape[:1]))
        rows, length = suffix.tokens.shape[:2]
        own = block_mask(jnp.ones((rows, length), jnp.bool_), suffix.starts_block)
        onto_prefix = jnp.broadcast_to(seen[:, None], (rows, length, seen.shape[1]))
        positions = seen.sum(axis=1, dtype=jnp.int32)[:, None] + jnp.arange(length, dtype=jnp.int32)[None]
        mask = jnp.concatenate([onto_prefix, own], axis=2)
        out, _ = _forward(model, [None, suffix.tokens], positions, mask, cache, suffix.condition)
        return x + step_size * model.velocity_from(out).astype(jnp.float32), at + step_size

    def go_on(carry: tuple) -> Bool[Array, ""]:
        return carry[1] >= -step_size / 2

    return jax.lax.while_loop(go_on, step, (jnp.asarray(noise), jnp.float32(1.0)))[0]


def sample_tokens(model: Pi0Fast, batch: ModelInput, max_tokens: int) -> Int32[Array, "b m"]:
    """Decode greedily until all rows end in the same step. The batch must hold all cameras of the model."""
    prefix, seen = _prefix(model, batch)
    mask = block_mask(seen, np.zeros(seen.shape[1], np.bool_))
    prefix, seen, mask = align_right(prefix, seen, mask)
    out, (k, v) = _forward(model, [prefix], positions_of_valid(seen), mask, None, None)
    k, v = (jnp.pad(slots, ((0, 0), (0, 0), (0, max_tokens), (0, 0), (0, 0))) for slots in (k, v))
    logits = model.transformer.logits(out)[:, -1]
    read, size = seen.sum(axis=1, dtype=jnp.int32), seen.shape[1]
    skipped = 1 if model.config.first_decode_position == "skip_one" else 0

    def likeliest(logits: Float[Array, "b v"]) -> Int32[Array, " b"]:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def put(tokens: Int32[Array, "b m"], token: Int32[Array, " b"], step: Int32[Array, ""]) -> Array:
        return jax.lax.dynamic_update_slice(tokens, token[:, None], (jnp.zeros((), jnp.int32), step))

    def one_token(carry: tuple) -> tuple:
        cache, token, tokens, step = carry
        embedded = model.transformer.embed(token[:, None])
        slot = jnp.arange(size + max_tokens, dtype=jnp.int32)[None]
        visible = slot < size + step
        if model.config.decode_mask == "valid":
            visible &= jnp.pad(seen, ((0, 0), (0, max_tokens)), constant_values=True)
        else:
            visible &= slot >= (size - read)[:, None]
        position = (read + skipped + step - 1)[:, None]
        out, cache = _forward(model, [embedded], position, visible[:, None], cache, None, size + step - 1)
        token = likeliest(model.transformer.logits(out)[:, -1])
        return cache, token, put(tokens, token, step), step + 1

    def go_on(carry: tuple) -> Bool[Array, ""]:
        _, token, _, step = carry
        return (step < max_tokens) & ~(token == END_TOKEN).all()

    token = likeliest(logits)
    tokens = put(jnp.zeros((token.shape[0], max_tokens), jnp.int32), token, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(go_on, one_token, ((k, v), token, tokens, jnp.ones((), jnp.int32)))[2]


def _prefix(model: Model, batch: ModelInput) -> tuple[Float[Array, "b p d"], Bool[Array, "b p"]]:
    """Embedded cameras and prompt, and the mask of valid tokens."""
    parts, valid = [], []
    for camera in model.config.cameras:
        parts.append(model.image_encoder(image_as_float(batch.images[camera])).out)
        mask = jnp.asarray(batch.image_masks[camera])
        valid.append(jnp.broadcast_to(mask[:, None], parts[-1].shape[:2]))
    parts.append(model.transformer.embed(jnp.asarray(batch.tokens)))
    valid.append(jnp.asarray(batch.token_mask))
    return jnp.concatenate(parts, axis=1), jnp.concatenate(valid, axis=1)


def _forward(
    model: Model,
    streams: Sequence[Float[Array, "b _t _d"] | None],
    positions: Int32[Array, "b q"],
    mask: Bool[Array, "b q s"],
    cache: tuple[Float[Array, "l b p k h"], Float[Array, "l b p k h"]] | None,
    condition: Float32[Array, "b 1 d"] | None,
    end: Int32[Array, ""] | None = None,
) -> tuple[Float[Array, "b q d"], tuple]:
    """Run one expert through all layers; returns its output, and keys and values of all tokens.

    New keys and values are concatenated to those of the cache, or written into its slots from `end` on.
    """
    transformer = model.transformer
    (running,) = (i for i, tokens in enumerate(streams) if tokens is not None)
    graph, states = nnx.split(transformer.experts[running].layers)
    by = rotation(positions, transformer.head_dim)

    def layer(x: Float[Array, "b q d"], weights: tuple) -> tuple[Float[Array, "b q d"], tuple]:
        state, before = weights
        block = nnx.merge(graph, state)
        y, gate = block.pre_attention_norm(x, condition)
        q, k, v = block.attention.heads_of(y)
        q, k = rotate(q, by), rotate(k, by).astype(transformer.dtype)
        if transformer.rope_dtype == "activation":
            q = q.astype(transformer.dtype)
        if before is not None:
            both = zip(before, (k, v), strict=True)
            if end is None:
                k, v = (jnp.concatenate(two, axis=1) for two in both)
            else:
                k, v = (write(slots, new, end) for slots, new in both)
        attended = attend(q * transformer.head_dim**-0.5, k, v, mask)
        y = block.attention.out(attended)
        x = x + (y if gate is None else y * gate)
        y, gate = block.pre_mlp_norm(x, condition)
        y = block.mlp(y)
        return x + (y if gate is None else y * gate), (k, v)

    tokens = jnp.asarray(streams[running]).astype(transformer.dtype)
    x, written = jax.lax.scan(layer, tokens, (states, cache))
    return transformer.experts[running].final_norm(x, condition)[0], written


def padded(work: QueryWorkload, batch: ModelInput) -> ModelInput:
    """The batch as the reference takes it: absent cameras black and masked, prompts padded to the longest."""
    rows, length = batch.tokens.shape
    room = ((0, 0), (0, max(work.config.max_token_len - length, 0)))
    size = work.config.image_size
    black = np.zeros((rows, size, size, 3), np.uint8)
    cameras = work.config.cameras
    return dataclasses.replace(
        batch,
        images={camera: batch.images.get(camera, black) for camera in cameras},
        image_masks={camera: np.full(rows, camera in batch.images) for camera in cameras},
        tokens=np.pad(batch.tokens, room),
        token_mask=np.pad(batch.token_mask, room),
    )


@dataclass(frozen=True)
class Comparison:
    """Times and answers of a policy and of the reference implementation, called alternately."""

    rows: int
    ours_s: float
    reference_s: float
    """Medians."""
    ratio: float
    """Median over pairs of the reference's time over ours."""
    cpu_ratio: float
    """The same of this process's CPU time, which is robust to load from other programs. Meaningless on
    accelerators."""
    cpu_s: float
    """Median CPU time of ours."""
    pairs: int
    difference: float
    """RMS difference of actions over the RMS of the reference's, or the fraction of differing tokens."""


def compare(policy: ModelPolicy, work: QueryWorkload, rows: int, *, seconds: float) -> Comparison:
    """Compare a policy's answers and their time with those of the reference implementation.

    Args:
      policy: Policy to compare.
      work: Workload of its queries.
      rows: Batch size.
      seconds: Least total duration; at least `PAIRS` pairs are timed.
    """
    config = work.config
    looped = model_from(config, flatten(policy.model))

    def reference(model: Model, batch: ModelInput, keys: jax.Array) -> jax.Array:
        if isinstance(model, Pi0Fast):
            return sample_tokens(model, batch, policy.preset.answer_tokens)
        typed = jax.random.wrap_key_data(keys, impl="threefry2x32")
        noise = noise_from_keys(typed, config.action_horizon, config.action_dim)
        return sample_actions(model, batch, noise, work.flow_steps)

    calls: tuple[Callable[..., jax.Array], ...] = (policy.programs, compiled(looped, reference))
    batch = random_batch(work, rows)
    keys = np.arange(2 * rows, dtype=np.uint32).reshape(rows, 2)
    inputs = jax.device_put(((batch, keys), (padded(work, batch), keys)))
    ours, theirs = (np.asarray(call(*arguments)) for call, arguments in zip(calls, inputs, strict=True))

    times: list[tuple[float, float]] = []
    cpu_times: list[tuple[float, float]] = []
    while len(times) < PAIRS or sum(map(sum, times)) < seconds:
        pair = []
        for call, arguments in zip(calls, inputs, strict=True):
            start, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(call(*arguments))
            pair.append((time.perf_counter() - start, time.process_time() - cpu))
        times.append((pair[0][0], pair[1][0]))
        cpu_times.append((pair[0][1], pair[1][1]))
    return Comparison(
        rows,
        statistics.median(own for own, _ in times),
        statistics.median(other for _, other in times),
        statistics.median(other / own for own, other in times),
        statistics.median(other / own for own, other in cpu_times),
        statistics.median(own for own, _ in cpu_times),
        len(times),
        _difference(policy.model, ours, theirs),
    )


def _difference(model: Model, ours: np.ndarray, theirs: np.ndarray) -> float:
    if isinstance(model, Pi0Fast):
        ended = np.cumsum(theirs == END_TOKEN, axis=1) - (theirs == END_TOKEN) > 0
        return float(np.mean(ours != np.where(ended, 0, theirs)))
    return float(np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)))
