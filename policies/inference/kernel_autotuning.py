"""Finds out which kernels are fastest on this device, by trying those that libraries have for it.

Each operation is timed alone, in the shapes that it has in a query. That takes seconds where compiling whole
programs for every combination would take minutes.

Axis letters: n images, b rows, t tokens, s slots, e and h heads and their width, k key heads, d width.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from simloop.policies.models.attention import attend, attend_by_library, attend_in_place
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.experts import gated_product, gated_product_by_library
from simloop.policies.models.kernels import IMPLEMENTATIONS, KernelChoice, Kernels, Trial
from simloop.policies.models.pi0_fast import is_doubled
from simloop.policies.models.projections import aligned_length
from simloop.policies.models.siglip import attend_to_all

GAIN = 1.03
"""Factor by which a library must be faster than XLA, or the plain path stays."""
IN_A_ROW = 8
"""Times that one call runs an operation, each on what the one before gave: launching from the host costs more
than a small kernel."""
CALLS = 10


@dataclass(frozen=True)
class Shapes:
    """Sizes of a batch that decide which kernel is fastest, on one device."""

    rows: int
    cameras: int
    prompt_tokens: int
    answer_tokens: int = 0
    """Slots behind the prompt, for models that answer in tokens."""
    devices: int = 1
    """How many there are beside each other. Kernels of tokamax are for one."""


def choose_kernels(
    config: ModelConfig,
    shapes: Shapes,
    *,
    platform: str | None = None,
    timed: Callable[[Callable[[], jax.Array]], float] | None = None,
) -> KernelChoice:
    """The fastest kernels for a model on the default device.

    Args:
      config: The model, in the form that it answers in.
      shapes: Of its batches.
      platform: What decides which libraries are tried; that of the default device unless given. On CPUs there
        is nothing to try.
      timed: Seconds that a function takes; measured unless given.
    """
    if (platform or jax.default_backend()) != "gpu":
        return KernelChoice(Kernels())
    timed = timed or seconds_of
    chosen: dict[str, str] = {}
    trials: list[Trial] = []
    for operation, implementations in IMPLEMENTATIONS.items():
        if operation == "gated_product" and not (
            config.unroll_layers and config.optimizations.joined_projections
        ):
            continue  # It takes joined weights.
        here = [name for name in implementations if shapes.devices == 1 or name != "tokamax"]
        tried = [_tried(operation, name, config, shapes, timed) for name in here]
        trials += tried
        usable = [
            (trial.milliseconds, trial.implementation) for trial in tried if trial.milliseconds is not None
        ]
        plain = next((ms for ms, name in usable if name == "xla"), float("inf"))
        best, name = min(usable, default=(plain, "xla"))
        if plain >= GAIN * best:
            chosen[operation] = name
    return KernelChoice(Kernels.of(chosen), tuple(trials))


def _tried(
    operation: str,
    implementation: str,
    config: ModelConfig,
    shapes: Shapes,
    timed: Callable[[Callable[[], jax.Array]], float],
) -> Trial:
    try:
        run = trial_of(operation, implementation, config, shapes)
        return Trial(operation, implementation, 1e3 * timed(run) / IN_A_ROW)
    except Exception as error:  # Whatever a library finds wrong, another one will do.
        words = str(error).strip().splitlines() or [""]
        return Trial(operation, implementation, None, f"{type(error).__name__}: {words[0]}"[:200])


def trial_of(
    operation: str, implementation: str, config: ModelConfig, shapes: Shapes
) -> Callable[[], jax.Array]:
    """A function that runs an operation several times on random numbers, compiled when it is first called.

    Raises:
      ImportError: If the library is not installed.
    """
    step, arguments = _operation(operation, implementation, config, shapes)

    @jax.jit
    def several(x: jax.Array, *rest: jax.Array | None) -> jax.Array:
        for _ in range(IN_A_ROW):
            x = step(x, *rest)
        return x

    return lambda: several(*arguments)


def _operation(
    operation: str, implementation: str, config: ModelConfig, shapes: Shapes
) -> tuple[Callable[..., jax.Array], tuple[jax.Array | None, ...]]:
    """One run, from an array to another one of its shape, and its arguments."""
    dtype = jnp.dtype(config.dtype)
    keys = iter(jax.random.split(jax.random.key(0), 3))

    def noise(*shape: int) -> jax.Array:
        return jax.random.normal(next(keys), shape, dtype)

    language, encoder = config.language, config.image_encoder
    prompt = shapes.cameras * config.tokens_per_image + shapes.prompt_tokens
    by_library = implementation != "xla"
    if operation == "gated_product":
        x, joined = noise(shapes.rows, prompt, language.width), noise(language.width, 2 * language.mlp_dim)

        def step(x: jax.Array, joined: jax.Array, down: jax.Array) -> jax.Array:
            gated = (
                gated_product_by_library(x, joined) if by_library else gated_product(jnp.matmul(x, joined))
            )
            return jnp.matmul(gated, down)  # As a layer goes on: nothing of it can be left out.

        return step, (x, joined, noise(language.mlp_dim, language.width))
    if operation == "image_attention":
        shape = (shapes.cameras * shapes.rows, config.tokens_per_image, encoder.num_heads, encoder.head_dim)
        q, k, v = noise(*shape), noise(*shape), noise(*shape)
        if by_library:
            return lambda q, k, v: attend_by_library(implementation, q, k, v, None), (q, k, v)
        return attend_to_all, (q, k, v)

    alone = operation == "prompt_attention"
    # A state token must not see the actions, and prompts of pi0-FAST have their padding in front.
    first_slots = config.action_expert is not None and (alone or config.state_as != "token")
    suffix = 0 if alone else 1
    if not alone and config.action_expert is not None:
        suffix = config.action_horizon + (1 if config.state_as == "token" else 0)
    generating = config.action_expert is None
    tokens = prompt if alone else suffix
    slots = prompt + shapes.answer_tokens if alone or generating else suffix + prompt
    seen_with_cache = generating or not alone  # The prompts of flow models see themselves alone.
    if config.optimizations.aligned and seen_with_cache:
        slots = aligned_length(slots)
    rows = shapes.rows
    if not alone and generating and is_doubled(config, rows):
        rows *= 2
    q = noise(rows, tokens, language.num_heads, language.head_dim)
    k, v = (noise(rows, slots, language.num_kv_heads, language.head_dim) for _ in range(2))
    seen = slots - shapes.prompt_tokens // 2
    mask = jnp.broadcast_to(jnp.arange(slots) < seen, (rows, tokens, slots))
    lengths = jnp.full((rows,), seen, jnp.int32) if first_slots else None
    plain = attend_in_place if config.optimizations.attention_in_place else attend

    def attention(
        q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, lengths: jax.Array | None
    ) -> jax.Array:
        if by_library:
            return attend_by_library(implementation, q, k, v, mask, lengths)
        return plain(q, k, v, mask)

    return attention, (q, k, v, mask, lengths)


def seconds_of(run: Callable[[], jax.Array]) -> float:
    """Seconds that a function takes, the median of several calls behind those that compile it."""
    for _ in range(2):
        jax.block_until_ready(run())
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        jax.block_until_ready(run())
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
