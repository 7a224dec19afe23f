"""`simloop paper`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional
from tyro.extras import SubcommandApp

from simloop.harness.commands.options import arg, say

DISAGREES = 1
"""Exit status if a number does not agree with the runs."""

command = SubcommandApp()


@command.command(name="check")
def check(
    main: Annotated[Positional[Path], arg("MAIN.tex")],
    *,
    run: Annotated[tuple[str, ...], arg("RUN [RUN ...]", "those that the folder was written from")] = (),
    all: bool = False,
) -> int:
    """Find the marked numbers in a paper, and say which no longer agree with the runs.

    Reads the document and the files that it inputs, among them the numbers.tex of simloop report RUN --paper DIR.
    Marked are \\simloop{KEY}, \\simloop[96.8]{KEY} with the number as text, and macros such as \\rate{pi0}{reach}.

    Args:
      main: The document.
      run: Run folders to compare with; NAME=FOLDER prefixes the policies with NAME:.
      all: Also print the numbers that agree.
    """
    from simloop.results.report.paper_check import check_paper

    found = check_paper(main, list(run))
    for sentence in found.changed:
        say(sentence)
    for one in found.numbers if all else found.wrong:
        say(str(one))
    agree = len(found.numbers) - len(found.wrong)
    say(f"{agree} of {len(found.numbers)} marked numbers agree with the runs.")
    return DISAGREES if found.wrong else 0
