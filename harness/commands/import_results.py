"""`simloop import-results`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say


def command(
    file: Annotated[Positional[Path], arg("FILE")],
    *,
    policy: Annotated[str, arg("NAME")],
    tasks: Annotated[str, arg("NAME", "what the file says")] = "",
    protocol: Annotated[str, arg("TEXT", "that of the program")] = "",
    source: Annotated[str, arg("TEXT", "the name of the file")] = "",
    out: Annotated[Path | None, arg("FILE", "print the rows")] = None,
) -> int:
    """Import results of another program as published rates, counted from its episodes.

    Reads logs of openpi's LIBERO client, eval_info.json of lerobot-eval, results of vla-eval, lists of episodes and
    tables by task. `simloop table RUN --published FILE` compares a run with the imported rows.

    Example:

      simloop import-results goal.log --policy pi05_libero --out published.csv

    Args:
      file: Result file of the other program.
      policy: Policy that was evaluated; a preset's name is compared with runs of that preset.
      tasks: Suite or group of tasks, for files that do not name it.
      protocol: Rules of the evaluation in words.
      source: Where the file was published.
      out: CSV file to append the rows to.
    """
    from simloop.results.tables.published import import_published, published_to_csv, read_published

    rows = import_published(file, policy, tasks=tasks, protocol=protocol, source=source)
    if out is None:
        say(published_to_csv(rows).rstrip())
        return 0
    known = read_published(out) if out.exists() else ()
    out.write_text(published_to_csv([*known, *rows]), encoding="utf-8")
    say(f"{len(rows)} rows from {file} are in {out}.")
    return 0
