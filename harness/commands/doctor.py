"""`simloop doctor`."""

from __future__ import annotations

from typing import Annotated

from simloop.harness.commands.options import arg
from simloop.terminal import Terminal


def command(*, suite: Annotated[tuple[str, ...], arg("S [S ...]", "check the machine")] = ()) -> int:
    """Check this machine, one line per component: whether it works, and what to do if it does not.

    Args:
      suite: Compare images and simulator states of these suites with recorded ones instead.
    """
    from simloop.harness import doctor

    return doctor.main(Terminal(), suite)
