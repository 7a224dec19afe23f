"""`simloop export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say


def command(
    run: Annotated[Positional[Path], arg("RUN")],
    episodes: Annotated[Positional[tuple[str, ...]], arg("[EPISODE ...]", "all finished ones")] = (),
    *,
    to: Annotated[Literal["rerun", "lerobot", "mcap", "parquet"], arg("{rerun,lerobot,mcap,parquet}")],
    out: Annotated[Path | None, arg("DIR", "RUN/exports/FORMAT")] = None,
    cameras: Annotated[
        tuple[str, ...], arg("NAME [...]", "those of the policy, else the first two of the suite")
    ] = (),
    adapter: Annotated[tuple[str, ...], arg("FILE:NAME", "the registered one")] = (),
    code: Annotated[tuple[str, ...], arg("P [P ...]", "none")] = (),
) -> int:
    """Write recorded episodes for other programs.

    rerun: a recording (.rrd) of each episode with cameras, scene, actions, chunks and rewards. mcap: the same as MCAP
    with Foxglove's schemas. lerobot: a LeRobotDataset with success and policy as metadata. parquet: plain tables of
    episodes, queries, steps, poses and contacts.

    Examples:

      simloop export runs/demo --to rerun pi0-tiny/pick-place-v3/2

      simloop export runs/demo --to parquet

    The episodes need step records (simloop run --record steps). Images come from the simulator, which plays the
    recorded steps again.

    Args:
      run: Run folder.
      episodes: POLICY/TASK/NUMBER each.
      to: Format.
      out: Folder to write; must not exist.
      cameras: Cameras of the suite.
      adapter: The adapter in a Python file with which the run was played.
      code: Policies and suites of one's own that the run was played with, written as in simloop run.
    """
    from simloop.harness.adapters.adapter_file import use_adapter_files_of
    from simloop.harness.export.exporting import export
    from simloop.harness.planning.code_of_runs import vouch_for

    use_adapter_files_of(run, adapter)
    vouch_for(code)
    for path in export(run, to, episodes, out or run / "exports" / to, cameras):
        say(f"wrote {path}")
    return 0
