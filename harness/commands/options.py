"""How options of commands are declared, and with which status commands end."""

from __future__ import annotations

from tyro.conf import arg as _arg

INTERRUPTED = 130
"""What shells expect of a command that ended by Ctrl-C."""
MISUSED = 2


def arg(metavar: str | None = None, default: str = "") -> object:
    """An option whose help says in words what stands for None."""
    return _arg(metavar=metavar, help_behavior_hint=default and f"(default: {default})")
