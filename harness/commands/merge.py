"""`simloop merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say


def command(
    runs: Annotated[Positional[tuple[Path, ...]], arg("RUN [RUN ...]")],
    *,
    out: Annotated[Path, arg("DIR")],
    code: Annotated[tuple[str, ...], arg("SUITE [...]", "none")] = (),
) -> int:
    """Join run folders of several machines into a new one; every episode counts once.

    Example, after each of two machines has played one half:

      simloop run mt10 --shard 1/2 --out runs/a

      simloop run mt10 --shard 2/2 --out runs/b

      simloop merge runs/a runs/b --out runs/mt10

    Runs that differ in experiment, software, weights, device or kernels are refused, and so are runs that
    disagree about an episode that both have played.

    Args:
      runs: Run folders; they are not changed.
      code: Suites of one's own in which the runs were played, written as in simloop run.
      out: Folder of the joined run; must not exist. simloop run resumes it if episodes are missing.
    """
    from simloop.harness.planning.code_of_runs import vouch_for
    from simloop.harness.recording.merge import merge
    from simloop.results.tables.run_tables import write_tables

    vouch_for(code)
    merged = merge(runs, out)
    write_tables(out)
    doubles = f"; {merged.doubles} were in several folders and count once" if merged.doubles else ""
    say(f"{merged.episodes} of {merged.planned} planned episodes are in {out}{doubles}.")
    return 0
