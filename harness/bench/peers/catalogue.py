"""The tools that are compared, and the commands by which each plays one episode of every task."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent
DRIVERS = FOLDER / "drivers"
"""Scripts that run under the interpreters of the tools, without simloop."""
COMMAND_LINE = "import sys; from simloop.harness.cli import main; sys.exit(main())"

Name = Literal["simloop", "simloop.evaluate", "inspect-robots", "vla-eval", "lerobot-eval"]
OWN_NAMES = ("simloop", "simloop.evaluate")


@dataclass(frozen=True)
class Peer:
    """A tool with an environment of its own."""

    name: str
    driver: str
    """File in `DRIVERS`."""
    cameras: int = 2

    @property
    def lock(self) -> Path:
        """File with the versions and hashes of all packages; `scripts/lock` writes it from the file beside it."""
        return FOLDER / f"{self.name}.lock"

    @property
    def python(self) -> str:
        """Version of Python for which the packages were locked, such as 3.11."""
        return self._wanted(r"# Python (\S+)")

    @property
    def version(self) -> str:
        """Version of the tool."""
        return self._wanted(r"\w[^=]*==(\S+)")

    def _wanted(self, pattern: str) -> str:
        found = re.search(f"^{pattern}$", self.lock.with_suffix(".in").read_text(), re.MULTILINE)
        assert found is not None, f"{self.name}.in has no line {pattern}"
        return found[1]

    def command(self, python: Path, out: Path, steps: int, tasks: Sequence[str]) -> list[str]:
        """Return the command that plays."""
        return [str(python), str(DRIVERS / self.driver), str(out), str(steps), *tasks]


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("inspect-robots", "drive_inspect_robots.py"),
        Peer("vla-eval", "drive_vla_eval.py"),
        Peer("lerobot-eval", "drive_lerobot.py", cameras=1),
    )
}


def own_command(name: str, out: Path, steps: int, tasks: Sequence[str]) -> list[str]:
    """Return the command by which simloop plays: `simloop run`, or `simloop.evaluate` in one process."""
    driver = DRIVERS / "drive_simloop.py"
    if name == "simloop.evaluate":
        return [sys.executable, str(driver), str(out), str(steps), *tasks]
    options = [
        "--episodes",
        "1",
        "--max-steps",
        str(steps),
        "--render",
        "fast",
        "--no-video",
        "--out",
        str(out),
    ]
    return [sys.executable, "-c", COMMAND_LINE, "run", f"{driver}:RandomChunks", "--tasks", *tasks, *options]
