"""Compilation of model functions whose calls cost no more than those of plain `jax.jit`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simloop.policies.inference.host_memory import from_host, in_host_memory

STACKS = ("layers", "blocks")
"""Attributes that hold all layers in one module with a leading layer axis (`experts.stacked`)."""
KEPT_SEPARATE = "layers"
"""The stack that loops over tokens or flow steps read. It stays separate inside the compiled function: stacked before
such a loop, it would be taken apart again, by copies, in every iteration."""


def compiled(
    model: nnx.Module,
    function: Callable[..., Any],
    *,
    separate_layers: bool = False,
    consume: bool = False,
    **jit_options: Any,
) -> functools.partial:
    """Compile `function(model, *args)` and return it as a function of `args`.

    The parameters are flattened once, here, and passed to `jax.jit` as a plain list; `nnx.jit` would
    walk the module at every call, which costs milliseconds. Later changes of the parameters have no effect.

    Args:
      model: Any module; `function` must not change it.
      function: For example `lambda model, batch, noise: model.sample_actions(batch, noise)`.
      separate_layers: Take stacked weights apart into one array per layer. In place of a stack of the transformer, the
        compiled function has a tuple of arrays, for which its layers must be unrolled and have a
        cache. Stacks of the image encoder are rebuilt inside, which costs nothing if its layers are
        unrolled: XLA sees through taking a layer out of a stack, and multiplies by the separate arrays
        instead of copies of slices.
      consume: Delete each stack once it has been copied, so that memory does not hold all weights twice. The
        model must not be used afterwards.
      jit_options: Passed on to `jax.jit`. Argument numbers count the parameters as number 0.
    """
    graph, state = nnx.split(model)
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    stacks = [_stack(path) if separate_layers else None for path, _ in paths]
    leaves = [
        leaf if stack is None else _separated(leaf, consume=consume)
        for stack, (_, leaf) in zip(stacks, paths, strict=True)
    ]

    def call(leaves: list, *args: Any) -> Any:
        whole = [
            leaf if stack is None else tuple(leaf) if stack == KEPT_SEPARATE else jnp.stack(leaf)
            for stack, leaf in zip(stacks, leaves, strict=True)
        ]
        return function(nnx.merge(graph, jax.tree.unflatten(structure, whole)), *args)

    return functools.partial(jax.jit(call, **jit_options), leaves)


def _separated(stack: jax.Array, *, consume: bool) -> list[jax.Array]:
    """Return the layers of a stack as separate arrays, which share its memory where the device has that of the host."""
    if in_host_memory(stack):
        whole = np.asarray(stack)
        return [from_host(whole[i, ...], stack) for i in range(len(whole))]
    layers = _unstacked(stack)
    if consume:
        jax.block_until_ready(layers)
        stack.delete()
    return layers


@jax.jit  # One program per shape; outside of one, each index would compile a program of its own.
def _unstacked(stack: jax.Array) -> list[jax.Array]:
    return [jax.lax.index_in_dim(stack, i, 0, keepdims=False) for i in range(stack.shape[0])]


def _stack(path: tuple) -> str | None:
    """Return the stack that a leaf belongs to, if any. A list of modules, whose name precedes a number, is none."""
    names = [getattr(key, "key", getattr(key, "name", getattr(key, "idx", None))) for key in path]
    stacks = (
        name for name, after in itertools.pairwise(names) if name in STACKS and not isinstance(after, int)
    )
    return next(stacks, None)
