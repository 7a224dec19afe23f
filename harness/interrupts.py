"""Ctrl-C and SIGTERM as interruptions of the main thread, at once or at its next good moment."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on SIGTERM, which clusters send before they kill; further ones are ignored.

    It also stops processes that ignore Ctrl-C, as shells have those do that they start in the background.
    """

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # Not in the main thread, which alone may set handlers.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def noted_interruption() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C or SIGTERM came; a second one raises `KeyboardInterrupt` at once."""
    came = False

    def note(*_: object) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    signals, before = (signal.SIGINT, signal.SIGTERM), []
    with contextlib.suppress(ValueError):  # Outside the main thread, which alone may set handlers.
        before = [signal.signal(one, note) for one in signals]
    try:
        yield lambda: came
    finally:
        for one, handler in zip(signals, before, strict=False):
            signal.signal(one, handler)
