"""Comparisons of pi0 and pi0.5."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simloop.harness.parity.comparison import ArrayComparison
from simloop.harness.parity.models import LOOP, Case, gradient_checks
from simloop.policies.inference.flat_jit import compiled
from simloop.policies.models.attention import block_mask
from simloop.policies.models.flow_matching import flow_target, training_noise_and_time
from simloop.policies.models.kv_cache import empty_cache
from simloop.policies.models.model_input import ModelInput, image_as_float
from simloop.policies.models.pi0 import Pi0, joint_attention

LOSS_KEY_OFFSET, SAMPLE_KEY_OFFSET = 1234, 7
"""The recording drew the noise of the loss from key(seed + 1234) and that of sampling from key(seed + 7)."""


def checks(case: Case) -> Iterator[ArrayComparison]:
    """Compare single passes, drawn noise, losses, samples and gradients of one case."""
    batch, arrays = case.batch(), case.recorded_f32
    x, time = arrays["suffix/noisy_actions"], arrays["suffix/time"]
    yield from case.compare(compiled(case.model, _passes)(batch, x, time))
    yield from case.compare(_drawn(case))
    yield from case.compare(_losses(case, batch))
    yield from case.compare(_samples(case, batch), limit=LOOP)

    def loss(model: Pi0, batch: ModelInput) -> jax.Array:
        return model.loss(batch, arrays["in/actions"], arrays["loss/noise"], arrays["loss/time"])

    yield from gradient_checks(case, loss, batch)


def _passes(model: Pi0, batch: ModelInput, x: jax.Array, time: jax.Array) -> dict[str, jax.Array]:
    arrays: dict[str, jax.Array] = {}
    for camera in model.config.cameras:
        images = model.image_encoder(image_as_float(batch.images[camera]))
        arrays |= {
            f"img/{camera}/tokens": images.out,
            f"img/{camera}/stem": images.stem,
            f"img/{camera}/with_posemb": images.with_positions,
            f"img/{camera}/encoded": images.encoded,
        }
    prefix, suffix = model.embed_prefix(batch), model.embed_suffix(batch.state, x, time)
    rows, slots = prefix.valid.shape[0], prefix.valid.shape[1] + suffix.tokens.shape[1]
    cache = empty_cache(model.config.language, batch=rows, slots=slots, dtype=jnp.dtype(model.config.dtype))
    mask, positions = joint_attention(prefix, suffix)
    (prefix_out, suffix_out), cache = model.transformer(
        [prefix.tokens, suffix.tokens], positions, mask, cache, [None, suffix.condition]
    )
    arrays |= {
        "prefix/lang_tokens": prefix.tokens[:, -batch.tokens.shape[1] :],
        "prefix/mask": prefix.valid,
        "prefix/ar_mask": prefix.starts_block[0],
        "prefix/attn_mask_rowsum": block_mask(prefix.valid, prefix.starts_block).sum(axis=2),
        "suffix/tokens": suffix.tokens,
        "suffix/mask": jnp.ones(suffix.tokens.shape[:2], jnp.bool_),
        "suffix/ar_mask": jnp.asarray(suffix.starts_block),
        "joint/attn_mask": mask,
        "joint/positions": positions,
        "joint/prefix_out": prefix_out,
        "joint/suffix_out": suffix_out,
        "joint/v_t": model.velocity_from(suffix_out),
        "joint/kv_cache_k": cache.k,
        "joint/kv_cache_v": cache.v,
    }
    if suffix.condition is not None:
        arrays["suffix/adarms_cond"] = suffix.condition
    return arrays


def _drawn(case: Case) -> dict[str, jax.Array]:
    if "loss/rng_key_data" not in case.recorded:
        return {}
    key = jax.random.wrap_key_data(jnp.asarray(case.recorded["loss/rng_key_data"]))
    seed = int(case.recorded["loss/rng_key_data"][1]) - LOSS_KEY_OFFSET
    actions = case.recorded["in/actions"]
    noise, time = training_noise_and_time(key, *actions.shape)
    x, velocity = flow_target(jnp.asarray(actions), noise, time)
    return {
        "loss/rng_split3_key_data": jax.random.key_data(jax.random.split(key, 3)),
        "loss/noise": noise,
        "loss/time": time,
        "loss/x_t": x,
        "loss/u_t": velocity,
        "sample/rng_noise": jax.random.normal(jax.random.key(seed + SAMPLE_KEY_OFFSET), actions.shape),
    }


def _losses(case: Case, batch: ModelInput) -> dict[str, jax.Array]:
    arrays = case.recorded_f32
    loss = compiled(case.model, Pi0.loss)
    drawn = arrays["in/actions"], arrays["loss/noise"], arrays["loss/time"]
    return {
        "loss/loss": loss(batch, *drawn),
        "loss/loss_all_cams_valid": loss(case.batch(all_cameras_valid=True), *drawn),
    }


def _samples(case: Case, batch: ModelInput) -> dict[str, Any]:
    sample = compiled(case.model, Pi0.sample_actions, static_argnums=3)
    noise = case.recorded_f32["suffix/noisy_actions"]
    samples: dict[str, Any] = {f"sample/actions_{steps}": sample(batch, noise, steps) for steps in (1, 5, 10)}
    if case.precision == "f32":
        second = jax.tree.map(lambda array: array[1:], batch)
        samples["sample/actions_10_elem1"] = sample(second, noise[1:], 10)
        samples["sample/actions_10_rng"] = sample(batch, case.recorded_f32["sample/rng_noise"], 10)
        for steps in (5, 10):
            samples |= _trajectory(case, batch, noise, steps)
    return samples


def _trajectory(case: Case, batch: ModelInput, noise: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    step_size = jnp.float32(-1.0 / steps)
    prefix = compiled(case.model, Pi0.read_prefix)(batch)
    step = compiled(case.model, Pi0.euler_step)
    x, time = jnp.asarray(noise), jnp.float32(1.0)
    xs, times = [x], [time]
    for _ in range(steps):
        x, _ = step(prefix, batch.state, x, time, step_size)
        time = time + step_size
        xs.append(x)
        times.append(time)
    return {f"sample/x_t_{steps}": np.stack(xs), f"sample/times_{steps}": np.stack(times)}
