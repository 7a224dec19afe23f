"""Ranges of inputs on real observations, and what answering in 8 bits changes.

Ranges of made-up inputs do not do: scales from zeros have cost published policies six points of success.
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
from simloop.policies.inference.quantized_model import WatchedProduct, quantized, with_products
from simloop.policies.interface import Chunk, Query
from simloop.policies.models.parameters import flatten, model_from
from simloop.policies.models.projections import Product
from simloop.policies.training.prepared import PreparedData

ROWS = 8
"""Queries of a call."""


@dataclass(frozen=True)
class ActionDeviation:
    """What a policy in 8 bits answers, beside what it answered before, to the same queries with the same noise."""

    queries: int
    compared: int
    """Queries that both answered with actions; models that answer in tokens may not."""
    relative: float
    """Root mean square of the difference of an action, in units of the action's standard deviation over all
    queries and steps, averaged over what actions consist of."""
    cosine: float
    """Between both chunks of a query, in these units, on average."""


def observations(data: PreparedData, count: int) -> list[Query]:
    """Frames of demonstrations as queries, evenly spread over all of them; all, where there are fewer."""
    frames = np.unique(np.linspace(0, data.size - 1, min(count, data.size)).round().astype(np.int64))
    images = {camera: np.asarray(pictures[frames]) for camera, pictures in data.frames.items()}
    return [
        Query(
            task="",
            instruction=data.instructions[data.task_of_frame[frame]],
            key=int(frame),
            state=data.states[frame],
            images={camera: pictures[i] for camera, pictures in images.items()},
        )
        for i, frame in enumerate(frames)
    ]


def calibrate(
    policy: ModelPolicy,
    queries: Sequence[Query],
    kind: Kind,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Quantization:
    """Answer the queries, and note the largest inputs of every large product on the way.

    Inputs are those of all tokens, of padding too. Takes about four times the memory of the weights.

    Args:
      policy: Whose weights are to be quantised.
      queries: Real observations, such as `observations` takes from demonstrations.
      kind: What they are for.
      told: Told how many queries have been answered.

    Raises:
      QuantizationError: If there are no queries, or the model cannot be quantised or has inputs without an end.
    """
    if not queries:
        raise QuantizationError("Ranges come from real observations; got none.")
    largest: dict[tuple[str, int], float] = {}

    def watch(name: str, layer: Any, reach: Any) -> None:
        at = name, int(layer)
        largest[at] = float(np.maximum(largest.get(at, 0.0), reach))  # What is not a number stays seen.

    def make(name: str, matrix: jax.Array, bias: jax.Array | None, input_axes: int) -> Product:
        return WatchedProduct(name, matrix, bias, input_axes, watch)

    # Every product has to run, those too of which nothing is read.
    config = policy.model.config
    config = dataclasses.replace(config, optimizations=config.optimizations.without("keys_only"))
    whole = model_from(config, flatten(policy.model))
    watched = ModelPolicy(policy.preset, policy.spec, with_products(whole, make), policy.stats, policy.words)
    for done, _ in enumerate(_answers(watched, queries), start=1):
        on_progress(done)
    jax.effects_barrier()
    for (name, layer), reach in largest.items():
        if not np.isfinite(reach):
            raise QuantizationError(
                f"The inputs of {name} in layer {layer} reach {reach}; the weights are broken."
            )
    names = dict.fromkeys(name for name, _ in largest)
    ranges = {
        # What was 0 in all queries has any range.
        name: tuple(largest[at] or 1.0 for at in sorted(at for at in largest if at[0] == name))
        for name in names
    }
    return Quantization(kind, ranges)


def in_8_bits(policy: ModelPolicy, quantization: Quantization) -> ModelPolicy:
    """The same policy with quantised weights.

    Raises:
      QuantizationError: If the ranges are not those of its model.
    """
    model = quantized(policy.model, quantization)
    return ModelPolicy(policy.preset, policy.spec, model, policy.stats, policy.words)


def action_error(
    policy: ModelPolicy,
    other: ModelPolicy,
    queries: Sequence[Query],
    on_progress: Callable[[int], None] = lambda done: None,
) -> ActionDeviation:
    """How much another policy's actions differ from those of a policy.

    `on_progress` is told how many queries have been answered by both.
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
    mean, spread = before.mean(axis=(0, 1)), before.std(axis=(0, 1))
    moves = spread > 0
    if not moves.any():
        return float("nan"), float("nan")
    before, after = (((x - mean) / np.where(moves, spread, 1.0))[..., moves] for x in (before, after))
    relative = np.sqrt(np.square(after - before).mean(axis=(0, 1))).mean()
    flat = before.reshape(len(before), -1), after.reshape(len(after), -1)
    norms = [np.linalg.norm(x, axis=1) for x in flat]
    cosine = (flat[0] * flat[1]).sum(axis=1) / np.maximum(norms[0] * norms[1], 1e-12)
    return float(relative), float(cosine.mean())


def _answers(policy: ModelPolicy, queries: Sequence[Query]) -> Iterator[Chunk]:
    for begin in range(0, len(queries), ROWS):
        yield from policy.infer(queries[begin : begin + ROWS], ROWS).chunks
