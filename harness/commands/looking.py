"""Commands that show what there is, and whether it works here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional

from simloop.harness.commands.options import arg


def list_(
    what: Positional[Literal["suites", "tasks", "protocols", "policies", "experiments", "perturbations"]],
    only: Annotated[Positional[str], arg("[NAME]", "all")] = "",
) -> int:
    """List what can be named in a run, such as: simloop list tasks metaworld

    Args:
      what: Kind of names.
      only: List only names that begin with this, or that belong to this suite or group.
    """
    from simloop.harness import listing

    listing.show(what, Console(), only)
    return 0


def doctor(*, suite: Annotated[tuple[str, ...], arg("S [S ...]", "the machine itself")] = ()) -> int:
    """Check this machine, a line per thing: what works, and what to do about what does not.

    Args:
      suite: Compare pictures and states of these suites with those that come with simloop, instead.
    """
    from simloop.harness import doctor

    return doctor.main(Console(), suite)


def parity(
    golden_dir: Annotated[Positional[Path], arg("GOLDEN_DIR")],
    *,
    only: Annotated[str | None, arg("NAME")] = None,
) -> int:
    """Compare the models with recorded outputs of the reference, array by array.

    Args:
      golden_dir: Folder with cases.json and the recordings it names (it may hold only some of them).
      only: Run only the cases and files whose name contains this.
    """
    from simloop.harness.parity.runner import main as run_parity

    return run_parity(golden_dir, only)
