"""Frozen dataclasses that JAX can flatten, map over and pass through its transformations."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def pytree(cls: type[T]) -> type[T]:
    """Make a frozen dataclass whose fields are all children of a pytree node.

    Rebuilding from children skips `__init__`, as JAX requires: its transformations insert placeholders
    in place of arrays, which the shape checks of a constructor would reject.
    """
    node = dataclasses.dataclass(frozen=True)(cls)  # type: ignore[call-overload]
    names = tuple(field.name for field in dataclasses.fields(node))  # type: ignore[arg-type]

    def flatten_with_keys(tree: Any) -> tuple[list, None]:
        return [(jax.tree_util.GetAttrKey(name), getattr(tree, name)) for name in names], None

    def flatten(tree: Any) -> tuple[list, None]:
        return [getattr(tree, name) for name in names], None

    def unflatten(_: None, children: Any) -> Any:
        tree = object.__new__(node)
        for name, child in zip(names, children, strict=True):
            object.__setattr__(tree, name, child)
        return tree

    jax.tree_util.register_pytree_with_keys(node, flatten_with_keys, unflatten, flatten)
    return node
