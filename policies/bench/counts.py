"""FLOPs and bytes of a query as XLA counts them, without weights: nothing is allocated, nothing runs.

XLA counts the body of a loop once, however often it runs, so layers and flow steps are laid out one after
the other before they are counted, and rows attend together. What is filled up to aligned lengths counts; a lone row of
pi0-FAST counts once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from simloop.policies.bench import stages
from simloop.policies.bench.roofline import QueryWorkload
from simloop.policies.inference.fused_weights import with_joined_projections
from simloop.policies.inference.sampling import actions
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.parameters import abstract_model, model_class


@dataclass(frozen=True)
class Count:
    """What XLA counts in one function."""

    flops: float | int
    bytes: float | int
    """Read and written by all operations; before compilation, as if each went through memory."""


def counts(work: QueryWorkload, batch: int, *, compiled: bool = False) -> dict[str, Count]:
    """Counts of one run of every stage, under the names of `floor.stages`.

    Args:
      work: What is asked.
      batch: Rows.
      compiled: Count after XLA has optimised, which takes as long as compiling does.
    """
    straight = _Straight(work.config)
    queries = stages.random_batch(work, batch)

    def prefill(model: Any, prefix: Any) -> Any:
        return stages.prefill(model, prefix, work.answer_tokens)

    prefix = straight.shapes(stages.embed, queries)
    read = straight.shapes(prefill, prefix)
    found = {
        "image encoder": straight.count(stages.embed, queries, compiled=compiled),
        "prefill": straight.count(prefill, prefix, compiled=compiled),
    }
    if work.config.action_expert is None:
        found["token"] = straight.count(stages.token, *read, compiled=compiled)
        return found
    schedule = straight.shapes(lambda model: model.schedule(1))
    x = jax.ShapeDtypeStruct((batch, work.config.action_horizon, work.config.action_dim), "float32")
    step = straight.count(stages.flow_step, read, queries.state, x, schedule, compiled=compiled)
    return {**found, "flow step": step}


def count_actions(work: QueryWorkload, batch: int, *, compiled: bool = False) -> Count:
    """The whole query of a flow model, as one function."""
    straight = _Straight(work.config)
    schedule = straight.shapes(lambda model: model.schedule(work.flow_steps))
    keys = jax.ShapeDtypeStruct((batch, 2), "uint32")
    return straight.count(actions, schedule, stages.random_batch(work, batch), keys, compiled=compiled)


class _Straight:
    """A model without loops, by the shapes of its weights."""

    def __init__(self, config: ModelConfig):
        # On CPUs rows would take turns, in a loop.
        in_place = config.optimizations.attention_in_place and jax.default_backend() != "cpu"
        optimizations = dataclasses.replace(
            config.optimizations, unrolled_steps=True, attention_in_place=in_place
        )
        config = dataclasses.replace(config, unroll_layers=True, optimizations=optimizations)
        model = abstract_model(config)
        if config.optimizations.joined_projections:
            model = nnx.eval_shape(
                lambda: with_joined_projections(model_class(config)(config, rngs=nnx.Rngs(0)))
            )
        self.graph, state = nnx.split(model)
        self.state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, config.dtype), state)

    def shapes(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns."""
        return jax.eval_shape(self._on_state(function), self.state, *arguments)

    def count(self, function: Callable[..., Any], *arguments: Any, compiled: bool) -> Count:
        """What XLA counts in it."""
        stage = jax.jit(self._on_state(function)).lower(self.state, *arguments)
        found = stage.compile().cost_analysis() if compiled else stage.cost_analysis()
        entries = found[0] if isinstance(found, list) else found
        return Count(entries["flops"], entries["bytes accessed"])

    def _on_state(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda state, *arguments: function(nnx.merge(self.graph, state), *arguments)
