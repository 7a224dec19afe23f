"""Calling a model at plain `jax.jit` speed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx


def compiled(model: nnx.Module, function: Callable[..., Any], **jit_options: Any) -> Callable[..., Any]:
    """Compile `function(model, *args)` and return it as a function of `args`.

    The parameters are flattened here, once, and passed to `jax.jit` as a plain list; `nnx.jit` would
    walk the module at every call, which costs milliseconds. They are the values of this moment.

    Args:
      model: Any module; it must not be changed by `function`.
      function: What to compile, such as `lambda model, batch, noise: model.sample_actions(batch, noise)`.
      jit_options: Passed on to `jax.jit`. Argument numbers count the parameters as number 0.
    """
    graph, state = nnx.split(model)
    leaves, structure = jax.tree.flatten(state)

    def call(leaves: list, *args: Any) -> Any:
        return function(nnx.merge(graph, jax.tree.unflatten(structure, leaves)), *args)

    return functools.partial(jax.jit(call, **jit_options), leaves)
