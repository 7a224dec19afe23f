"""`simloop parity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg


def command(
    golden_dir: Annotated[Positional[Path], arg("GOLDEN_DIR")],
    *,
    only: Annotated[str | None, arg("NAME", "all cases")] = None,
) -> int:
    """Compare the models with recorded outputs of the reference implementation, array by array.

    Args:
      golden_dir: Folder with cases.json and the recordings that it names; some of them may be missing.
      only: Run the cases and files whose name contains this.
    """
    from simloop.harness.parity.runner import main

    return main(golden_dir, only)
