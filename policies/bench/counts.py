"""FLOPs and bytes of each stage as XLA counts them, from the shapes of the weights alone.

XLA counts the body of a loop once, however often it runs, so layers and flow steps are unrolled before
counting, and all rows attend in one product. Padding to aligned lengths is included.
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
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.parameters import abstract_model


@dataclass(frozen=True)
class Count:
    """XLA's counts for one function."""

    flops: float | int
    bytes: float | int
    """Read and written by all operations; before optimization, as if every operation went through memory."""


def counts(work: QueryWorkload, batch: int, *, compiled: bool = False) -> dict[str, Count]:
    """Counts of one run of every stage, by the stage names of `roofline_stages`.

    Args:
      work: Workload of a query.
      batch: Number of rows.
      compiled: Count after optimization, which compiles the stages.
    """
    model = _UnrolledModel(work.config, work.plan)
    queries = stages.random_batch(work, batch)

    def prefill(model: Any, prefix: Any) -> Any:
        return stages.prefill(model, prefix, work.answer_tokens)

    prefix = model.shapes(stages.embed, queries)
    read = model.shapes(prefill, prefix)
    found = {
        "image encoder": model.count(stages.embed, queries, compiled=compiled),
        "prefill": model.count(prefill, prefix, compiled=compiled),
    }
    if work.config.action_expert is None:
        found["token"] = model.count(stages.token, *read, compiled=compiled)
        return found
    schedule = model.shapes(lambda model: model.schedule(1))
    x = jax.ShapeDtypeStruct((batch, work.config.action_horizon, work.config.action_dim), "float32")
    step = model.count(stages.flow_step, read, queries.state, x, schedule, compiled=compiled)
    return {**found, "flow step": step}


class _UnrolledModel:
    """A model without loops, given by the shapes of its weights."""

    def __init__(self, config: ModelConfig, plan: InferencePlan):
        # On CPUs the rows would attend in a loop.
        in_place = plan.attention_in_place and jax.default_backend() != "cpu"
        fused = plan.fused_projections is not False
        plan = dataclasses.replace(
            plan, unroll_layers=True, unroll_steps=True, fused_projections=fused, attention_in_place=in_place
        )
        model = abstract_model(config, plan)
        self.graph, state = nnx.split(model)
        self.state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, config.dtype), state)

    def shapes(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Shapes and dtypes that the function returns."""
        return jax.eval_shape(self._on_state(function), self.state, *arguments)

    def count(self, function: Callable[..., Any], *arguments: Any, compiled: bool) -> Count:
        """XLA's counts for the function."""
        stage = jax.jit(self._on_state(function)).lower(self.state, *arguments)
        found = stage.compile().cost_analysis() if compiled else stage.cost_analysis()
        entries = found[0] if isinstance(found, list) else found
        return Count(entries["flops"], entries["bytes accessed"])

    def _on_state(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda state, *arguments: function(nnx.merge(self.graph, state), *arguments)
