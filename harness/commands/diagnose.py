"""`simloop diagnose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say


def command(
    run: Annotated[Positional[Path], arg("RUN")],
    *,
    policy: Annotated[str | None, arg("P", "all")] = None,
    task: Annotated[str | None, arg("T", "all")] = None,
) -> int:
    """Rank tasks and moments by lost success, and group failed episodes by how they ended.

    Endings, such as `never touched` or `lifted, dropped`, are read from step records (simloop run --record steps) by
    rules that docs/debugging.md lists. Moments are those of the forks in RUN/forks (simloop fork --at all).

    Examples:

      simloop diagnose runs/demo --policy pi0-tiny

    Args:
      run: Run folder, finished or still running.
      policy: Only episodes of this policy.
      task: Only episodes of this task, with its version.
    """
    from simloop.results.diagnosis import diagnose
    from simloop.results.tables.diagnosis_table import diagnosis_grids, moment_grid
    from simloop.results.tables.typesetting import to_text

    grids = diagnosis_grids(diagnose(run, policy, task))
    moments = moment_grid(run, policy, task)
    for grid in [*grids, moments] if moments else grids:
        say(to_text(grid))
    return 0
