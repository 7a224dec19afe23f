"""Calling a model at plain `jax.jit` speed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

STACKS = ("layers", "blocks")
"""Attributes that hold the modules of all layers as one, with a leading layer axis (`experts.stacked`)."""


def compiled(
    model: nnx.Module, function: Callable[..., Any], *, separate_layers: bool = False, **jit_options: Any
) -> Callable[..., Any]:
    """Compile `function(model, *args)` and return it as a function of `args`.

    The parameters are flattened here, once, and passed to `jax.jit` as a plain list; `nnx.jit` would
    walk the module at every call, which costs milliseconds. They are the values of this moment.

    Args:
      model: Any module; it must not be changed by `function`.
      function: What to compile, such as `lambda model, batch, noise: model.sample_actions(batch, noise)`.
      separate_layers: Copy stacked weights into one array per layer. The compiled function puts them
        together again, which costs nothing where layers are unrolled: XLA sees through taking a layer
        out of a stack, and multiplies by arrays that lie there instead of copies of parts.
      jit_options: Passed on to `jax.jit`. Argument numbers count the parameters as number 0.
    """
    graph, state = nnx.split(model)
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    leaves = [list(leaf) if separate_layers and _is_stacked(path) else leaf for path, leaf in paths]

    def call(leaves: list, *args: Any) -> Any:
        whole = [jnp.stack(leaf) if isinstance(leaf, list) else leaf for leaf in leaves]
        return function(nnx.merge(graph, jax.tree.unflatten(structure, whole)), *args)

    return functools.partial(jax.jit(call, **jit_options), leaves)


def _is_stacked(path: tuple) -> bool:
    """Whether a leaf has a leading layer axis; a list of modules, which has a number there, has none."""
    names = [getattr(key, "key", getattr(key, "name", getattr(key, "idx", None))) for key in path]
    return any(name in STACKS and not isinstance(behind, int) for name, behind in itertools.pairwise(names))
