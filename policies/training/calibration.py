"""Calibrate 8-bit policies on real observations, and measure how much their actions change.

Synthetic inputs are no substitute: scales from all-zero inputs have cost published policies six points of success.
Axis letters: n queries, c chunk steps, a action size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from simloop.policies.inference.model_policy import ModelPolicy
from simloop.policies.inference.quantization import Kind, Quantization, QuantizationError
from simloop.policies.inference.quantized_model import ObservedProduct, quantized, with_products
from simloop.policies.interface import Chunk, Query
from simloop.policies.models.projections import Product
from simloop.policies.training.prepared import PreparedData

BATCH_SIZE = 8


@dataclass(frozen=True)
class ActionDeviation:
    """Change of actions between two policies for the same queries and noise."""

    queries: int
    compared: int
    """Queries that both policies answered with actions; token models may fail to."""
    relative: float
    """RMS difference of each action entry in units of its standard deviation over all queries and steps, averaged
    over entries."""
    cosine: float
    """Mean cosine similarity of the two chunks of a query, in these units."""


def observations(data: PreparedData, count: int) -> list[Query]:
    """At most `count` frames of demonstrations as queries, evenly spaced."""
    frames = np.unique(np.linspace(0, data.size - 1, min(count, data.size)).round().astype(np.int64))
    images = {camera: np.asarray(stored[frames]) for camera, stored in data.frames.items()}
    return [
        Query(
            task="",
            instruction=data.instructions[data.task_of_frame[frame]],
            key=int(frame),
            state=data.states[frame],
            images={camera: of_camera[i] for camera, of_camera in images.items()},
        )
        for i, frame in enumerate(frames)
    ]


def calibrate(
    policy: ModelPolicy,
    queries: Sequence[Query],
    kind: Kind,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Quantization:
    """Measure the largest input of every large product while answering the queries.

    Inputs of padding tokens count as well. Takes about four times the memory of the weights.

    Args:
      policy: Policy to quantize.
      queries: Real observations, such as those of `observations`.
      kind: 8-bit type.
      on_progress: Called with the number of answered queries.

    Raises:
      QuantizationError: If there are no queries, the model cannot be quantized, or an input is not finite.
    """
    if not queries:
        raise QuantizationError("Calibration needs real observations; got none.")
    largest: dict[tuple[str, int], float] = {}

    def watch(name: str, layer: Any, reach: Any) -> None:
        at = name, int(layer)
        largest[at] = float(np.maximum(largest.get(at, 0.0), reach))  # Propagates NaN.

    def make(name: str, matrix: jax.Array, bias: jax.Array | None, input_axes: int) -> Product:
        return ObservedProduct(name, matrix, bias, input_axes, watch)

    # Every product has to run, also those whose results are not read.
    plan = dataclasses.replace(policy.plan, keys_only=False)
    observed = ModelPolicy(
        policy.preset,
        policy.spec,
        with_products(policy.model, make, plan),
        policy.stats,
        policy.tokenizers,
    )
    for done, _ in enumerate(_answers(observed, queries), start=1):
        on_progress(done)
    jax.effects_barrier()
    for (name, layer), reach in largest.items():
        if not np.isfinite(reach):
            raise QuantizationError(
                f"The inputs of {name} in layer {layer} reach {reach}; the weights are broken."
            )
    names = dict.fromkeys(name for name, _ in largest)
    ranges = {
        # Inputs that were 0 in all queries may have any range.
        name: tuple(largest[at] or 1.0 for at in sorted(at for at in largest if at[0] == name))
        for name in names
    }
    return Quantization(kind, ranges)


def in_8_bits(policy: ModelPolicy, quantization: Quantization) -> ModelPolicy:
    """The same policy with quantized weights.

    Raises:
      QuantizationError: If the ranges do not fit its model.
    """
    model = quantized(policy.model, quantization, policy.plan)
    return ModelPolicy(policy.preset, policy.spec, model, policy.stats, policy.tokenizers)


def action_error(
    policy: ModelPolicy,
    other: ModelPolicy,
    queries: Sequence[Query],
    on_progress: Callable[[int], None] = lambda done: None,
) -> ActionDeviation:
    """Measure how much another policy's actions differ from those of a policy.

    `on_progress` is called with the number of queries that both have answered.
    """
    pairs: list[tuple[Chunk, Chunk]] = []
    for pair in zip(_answers(policy, queries), _answers(other, queries), strict=True):
        pairs.append(pair)
        on_progress(len(pairs))
    both = [pair for pair in pairs if all(chunk.undecodable is None for chunk in pair)]
    if not both:
        return ActionDeviation(len(pairs), 0, float("nan"), float("nan"))
    before, after = (
        np.stack([chunk.actions for chunk in chunks]).astype(np.float64) for chunks in zip(*both, strict=True)
    )
    return ActionDeviation(len(pairs), len(both), *_difference(before, after))


def _difference(before: Float[np.ndarray, "n c a"], after: Float[np.ndarray, "n c a"]) -> tuple[float, float]:
    mean, std = before.mean(axis=(0, 1)), before.std(axis=(0, 1))
    varies = std > 0
    if not varies.any():
        return float("nan"), float("nan")
    before, after = (((x - mean) / np.where(varies, std, 1.0))[..., varies] for x in (before, after))
    relative = np.sqrt(np.square(after - before).mean(axis=(0, 1))).mean()
    flat = before.reshape(len(before), -1), after.reshape(len(after), -1)
    norms = [np.linalg.norm(x, axis=1) for x in flat]
    cosine = (flat[0] * flat[1]).sum(axis=1) / np.maximum(norms[0] * norms[1], 1e-12)
    return float(relative), float(cosine.mean())


def _answers(policy: ModelPolicy, queries: Sequence[Query]) -> Iterator[Chunk]:
    for begin in range(0, len(queries), BATCH_SIZE):
        yield from policy.infer(queries[begin : begin + BATCH_SIZE], BATCH_SIZE).chunks
