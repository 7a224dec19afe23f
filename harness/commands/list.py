"""`simloop list`."""

from __future__ import annotations

from typing import Annotated, Literal

from tyro.conf import Positional

from simloop.harness.commands.options import arg
from simloop.terminal import Terminal


def command(
    what: Positional[Literal["suites", "tasks", "protocols", "policies", "experiments", "perturbations"]],
    only: Annotated[Positional[str], arg("[NAME]", "all")] = "",
) -> int:
    """List suites, tasks, protocols, policies, experiments or perturbations, such as: simloop list tasks metaworld

    Args:
      what: Kind of names.
      only: List only names that begin with this, or that belong to this suite or group.
    """
    from simloop.harness.listing import show

    show(what, Terminal(), only)
    return 0
