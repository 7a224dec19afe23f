"""Lets the source tree run where jaxtyping is not installed, as on a machine that is borrowed to measure on."""

from __future__ import annotations

import sys
import types
from typing import Any


class _Anything(type):
    """A class whose subscripts are annotations that nobody reads: Float[Array, "b t"]."""

    def __getitem__(cls, shape: Any) -> Any:
        return Any


class _Shape(metaclass=_Anything):
    """Stands for every type of jaxtyping."""


class _Jaxtyping(types.ModuleType):
    """Gives every name that is imported from it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Shape


def without_jaxtyping() -> None:
    """Put a module in the place of jaxtyping if there is none. Shapes are then not checked."""
    try:
        import jaxtyping  # noqa: F401
    except ImportError:
        sys.modules["jaxtyping"] = _Jaxtyping("jaxtyping")
