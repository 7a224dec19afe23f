"""`simloop doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg
from simloop.terminal import Terminal


def command(
    dataset: Annotated[Positional[Path | None], arg("[DATASET]", "check the machine")] = None,
    *,
    suite: Annotated[tuple[str, ...], arg("S [S ...]", "check the machine")] = (),
) -> int:
    """Check this machine, one line per component: whether it works, and what to do if it does not.

    Args:
      dataset: Check the tables and statistics of this LeRobotDataset instead.
      suite: Compare images and simulator states of these suites with recorded ones instead.
    """
    from simloop.harness import doctor

    return doctor.main(Terminal(), suite, dataset)
