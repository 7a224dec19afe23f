"""Checks of shapes and types while the tests run, of the first calls of every function.

A check costs more than many of the functions, some of which a simulation calls a hundred thousand times, and making it
takes milliseconds for each of thousands of functions, of which a test calls few.
"""

import functools
from collections.abc import Callable
from typing import Any

import jaxtyping

CALLS = 100
"""Calls of a function that are checked in each process."""

Checker = Callable[[Any], Any]
_LEFT: dict[object, list[int]] = {}
"""Number of calls that are still checked, by code, as the only entry of a list."""


def install(package: str) -> object:
    """Check the functions and classes of a package whose modules are imported from now on."""
    checking = jaxtyping.jaxtyped
    jaxtyping.jaxtyped = lambda *, typechecker: functools.partial(
        _decorate, checking(typechecker=typechecker)
    )
    return jaxtyping.install_import_hook([package], "beartype.beartype")


def _decorate(check: Checker, subject: Any) -> Any:
    if not isinstance(subject, type):
        return _first_calls(functools.partial(check, subject), subject)
    unchecked = subject.__init__
    checked = check(subject)
    if checked.__init__ is not unchecked:  # A dataclass, whose fields are checked.
        init = checked.__init__
        checked.__init__ = _first_calls(lambda: init, unchecked)
    return checked


def _first_calls(make: Callable[[], Callable[..., Any]], unchecked: Callable[..., Any]) -> Callable[..., Any]:
    checked = None
    # Functions in functions are made at every call of the outer one, and share their code.
    left = _LEFT.setdefault(getattr(unchecked, "__code__", unchecked), [CALLS])

    @functools.wraps(unchecked)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if not left[0]:
            return unchecked(*args, **kwargs)
        left[0] -= 1
        checked = checked or make()
        return checked(*args, **kwargs)

    return call
