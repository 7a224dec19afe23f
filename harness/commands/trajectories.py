"""`simloop trajectories`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say


def command(
    run: Annotated[Positional[Path], arg("RUN")],
    episodes: Annotated[Positional[tuple[str, ...]], arg("[EPISODE ...]", "all finished ones")] = (),
    *,
    adapter: Annotated[tuple[str, ...], arg("FILE:NAME", "the registered one")] = (),
    code: Annotated[tuple[str, ...], arg("P [P ...]", "none")] = (),
) -> int:
    """Compute where the chunks of recorded episodes lead, and where the robot went, for the pages of the run.

    A predicted trajectory is what the simulator does from the saved state of a query if the whole chunk is executed.
    It is written beside the step records with the executed one and the matrices of the cameras. simloop view shows
    them on the images, and computes missing ones when they are switched on.

    Example:

      simloop trajectories runs/demo pi0-tiny/pick-place-v3/2

    Args:
      run: Run folder with step records.
      episodes: POLICY/TASK/NUMBER each.
      adapter: The adapter in a Python file with which the run was played.
      code: Policies and suites of one's own that the run was played with, written as in simloop run.
    """
    from simloop.harness.adapters.adapter_file import use_adapter_files_of
    from simloop.harness.debugging.replay import finished_episodes
    from simloop.harness.debugging.trajectories import write_trajectories
    from simloop.harness.planning.code_of_runs import vouch_for

    use_adapter_files_of(run, adapter)
    vouch_for(code)
    for name in episodes or finished_episodes(run):
        say(f"{name}  {write_trajectories(run, name)}")
    return 0
