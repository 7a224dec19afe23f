"""Events until which a session runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from simloop.harness.errors import SimloopError

if TYPE_CHECKING:
    from simloop.harness.debugging.session import Session

Event: TypeAlias = "str | int | Callable[[Session], bool]"
"""When to pause: see `Session.run_until`."""


class SessionError(SimloopError):
    """Raised for a request that a session cannot fulfil now."""


def condition(event: Event) -> Callable[[Session], bool]:
    """Turn the event of `Session.run_until` into a function of the session."""
    if callable(event):
        return event
    if event == "query":
        return lambda session: session.wants_query
    if event == "end":
        return lambda session: False
    if isinstance(event, int) or event.isdecimal():
        return lambda session: session.steps >= int(event)
    try:
        expression = compile(event, "event", "eval")
    except SyntaxError as error:
        raise SessionError(
            f"Wanted query, end, a number of steps or an expression such as `state[2] < 0.1`; got {event!r}."
        ) from error
    return lambda session: bool(_evaluated(expression, session))


def _evaluated(expression: Any, session: Session) -> Any:
    names = {
        "step": session.steps,
        "query": session.queries,
        "reward": session.reward,
        "state": session.state,
        "privileged": session.env.privileged(),
    }
    try:
        return eval(expression, {"np": np}, names)
    except Exception as error:
        raise SessionError(
            f"The event cannot be evaluated ({type(error).__name__}: {error}). It may use {', '.join(names)}, np."
        ) from error
