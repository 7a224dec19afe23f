"""Declaration of command-line options, exit statuses and printing, shared by the commands."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import arg as tyro_arg

from simloop.terminal import Terminal
from simloop.untrusted import printable

INTERRUPTED = 130
"""Exit status that shells expect of a command ended by Ctrl-C."""
MISUSED = 2

FLAT: Any = tyro_arg(name="")
"""Marks a dataclass whose fields become options without a prefix."""


def arg(metavar: str, default: str | None = None) -> Any:
    """Declare an option.

    Args:
      metavar: Placeholder of the value in the help text.
      default: Description of the default where its value does not explain itself; empty to print none.
    """
    if default is None:
        return tyro_arg(metavar=metavar)
    return tyro_arg(metavar=metavar, help_behavior_hint=default and f"(default: {default})")


def interrupted(kept: int, planned: int, folder: Path, console: Console | None = None) -> int:
    """Say how to resume the command; returns its exit status.

    Args:
      kept: Finished episodes in the run folder.
      planned: All episodes of the plan.
    """
    say(
        f"Interrupted: {kept} of {planned} episodes are kept in {folder}. "
        f"To resume: {shlex.join(['simloop', *sys.argv[1:]])}",
        console,
    )
    return INTERRUPTED


def say(text: str, console: Console | None = None) -> None:
    """Print text as it is: no markup, no highlighting, no line breaks that the text does not have."""
    (console or Terminal()).print(printable(text), highlight=False, markup=False, soft_wrap=True)
