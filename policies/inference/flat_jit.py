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
READ_APART = "layers"
"""The one of these that loops over tokens or flow steps read. It stays apart inside the compiled function: put
together before such a loop, it would be taken apart again, by copies, in every turn."""


def compiled(
    model: nnx.Module,
    function: Callable[..., Any],
    *,
    separate_layers: bool = False,
    consume: bool = False,
    **jit_options: Any,
) -> functools.partial:
    """Compile `function(model, *args)` and return it as a function of `args`.

    The parameters are flattened here, once, and passed to `jax.jit` as a plain list; `nnx.jit` would
    walk the module at every call, which costs milliseconds. They are the values of this moment.

    Args:
      model: Any module; it must not be changed by `function`.
      function: What to compile, such as `lambda model, batch, noise: model.sample_actions(batch, noise)`.
      separate_layers: Copy stacked weights into one array per layer. The compiled function has a tuple of
        arrays in the place of a stack of the transformer, for which its layers must be unrolled and have a
        cache. It puts those of the image encoder together again, which costs nothing where its layers are
        unrolled: XLA sees through taking a layer out of a stack, and multiplies by arrays that lie there
        instead of copies of parts.
      consume: Delete each stack once it has been copied, so that memory need not hold all weights twice. The
        model is then of no use any more.
      jit_options: Passed on to `jax.jit`. Argument numbers count the parameters as number 0.
    """
    graph, state = nnx.split(model)
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    stacks = [_stack(path) if separate_layers else None for path, _ in paths]
    leaves = [
        leaf if stack is None else _apart(leaf, consume=consume)
        for stack, (_, leaf) in zip(stacks, paths, strict=True)
    ]

    def call(leaves: list, *args: Any) -> Any:
        whole = [
            leaf if stack is None else tuple(leaf) if stack == READ_APART else jnp.stack(leaf)
            for stack, leaf in zip(stacks, leaves, strict=True)
        ]
        return function(nnx.merge(graph, jax.tree.unflatten(structure, whole)), *args)

    return functools.partial(jax.jit(call, **jit_options), leaves)


def _apart(stack: jax.Array, *, consume: bool) -> list[jax.Array]:
    """The layers of a stack as arrays of their own."""
    # Iterating would fetch a stack that is split over devices, and put each layer on the first of them.
    layers = [jax.lax.index_in_dim(stack, i, 0, keepdims=False) for i in range(stack.shape[0])]
    if consume:
        jax.block_until_ready(layers)
        stack.delete()
    return layers


def _stack(path: tuple) -> str | None:
    """The stack that a leaf belongs to; a list of modules, which has a number behind its name, is none."""
    names = [getattr(key, "key", getattr(key, "name", getattr(key, "idx", None))) for key in path]
    stacks = (
        name for name, behind in itertools.pairwise(names) if name in STACKS and not isinstance(behind, int)
    )
    return next(stacks, None)
