"""`simloop bench peers`: what the same episodes cost in simloop and in other evaluation tools."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simloop.cache_folder import simloop_home
from simloop.envs.rendering import gl_environment
from simloop.harness.bench import event_counts
from simloop.harness.bench.peers.catalogue import DRIVERS, OWN_NAMES, PEERS, own_command
from simloop.harness.bench.peers.installation import InstallationError, python_of
from simloop.harness.bench.process_tree import CommandCosts, command_costs
from simloop.harness.errors import SimloopError
from simloop.results.tables.grid import NONE, Cell, Grid, Row
from simloop.results.tables.typesetting import to_markdown
from simloop.terminal import Terminal

MAX_STEPS = 500
"""Control steps after which Meta-World ends an episode."""
LIMIT_S = 1800.0
COLUMNS = (
    "tool",
    "cameras",
    "steps",
    "processor s per 1,000 steps after the first",
    "processor s until the first step",
    "images per 1,000 steps",
    "MB of images between processes per 1,000 steps",
    "peak memory, MiB",
    "wall s",
)


@dataclass(frozen=True)
class Played:
    """Costs of episodes, and what happened in them."""

    costs: CommandCosts
    steps: int
    images: int
    moved_bytes: int

    @property
    def processor_s_per_1000_steps(self) -> float:
        """Processor time after the first step, with the start of further tasks and the end of the command."""
        spent_s = self.costs.whole.processor_s - self.costs.until_event.processor_s
        return 1000 * spent_s / (self.steps - 1)


class NotPlayed(SimloopError):
    """A tool did not play the episodes."""


def run(
    names: Sequence[str], tasks: Sequence[str], steps: int, folder: Path | None, terminal: Terminal
) -> int:
    """Print a Markdown table with a row for every tool; returns 1 if one of them could not be measured.

    Raises:
      SimloopError: If `steps` is out of range.
    """
    if not 2 <= steps <= MAX_STEPS:
        raise SimloopError(
            f"--steps takes 2 to {MAX_STEPS}, after which Meta-World ends an episode; got {steps}."
        )
    environments = folder or simloop_home() / "peers"
    progress = Terminal(stderr=True)
    rows = []
    for name in names:
        progress.print(f"{name} ...", soft_wrap=True)
        try:
            rows.append(measured_row(name, _play(name, environments, tasks, steps)))
        except (InstallationError, NotPlayed) as error:
            rows.append((*_title(name), f"not measured: {error}", *[NONE] * (len(COLUMNS) - 3)))
    terminal.print(to_markdown(grid(rows, tasks, steps)), soft_wrap=True)
    return int(any(NONE in row for row in rows))


def _play(name: str, environments: Path, tasks: Sequence[str], steps: int) -> Played:
    """Play one episode of every task, after a run of two steps that fills the caches."""
    python = None if name in OWN_NAMES else python_of(PEERS[name], environments)

    def command(out: Path, tasks: Sequence[str], steps: int) -> list[str]:
        if python is None:
            return own_command(name, out, steps, tasks)
        return PEERS[name].command(python, out, steps, tasks)

    with tempfile.TemporaryDirectory() as folder:
        play(command(_made(folder, "first"), tasks[:1], 2), _made(folder, "first-counts"), name in OWN_NAMES)
        return play(command(_made(folder, "out"), tasks, steps), _made(folder, "counts"), name in OWN_NAMES)


def _made(folder: str, name: str) -> Path:
    path = Path(folder) / name
    path.mkdir()
    return path


def play(command: Sequence[str], counts: Path, own: bool) -> Played:
    """Run a command to its end and count what happens in its processes.

    Args:
      counts: An empty folder.
      own: Whether the command needs the packages of this interpreter.

    Raises:
      NotPlayed: If it fails, takes too long or executes fewer than two control steps.
    """
    probe, log = _made(str(counts), "probe"), counts / "log"
    shutil.copy(event_counts.__file__, probe / "sitecustomize.py")

    def total(what: str) -> int:
        return event_counts.total(counts, what)

    try:
        costs = command_costs(
            command,
            lambda: total(event_counts.STEPS) > 0,
            environment=_environment(probe, counts, own),
            folder=counts,
            output=log,
            limit_s=LIMIT_S,
        )
    except TimeoutError as error:
        raise NotPlayed(str(error)) from None
    steps = total(event_counts.STEPS)
    if costs.status or steps < 2:
        last = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        raise NotPlayed(f"exit status {costs.status} after {steps} control steps: {' '.join(last)[-300:]}")
    return Played(costs, steps, total(event_counts.PICTURES), total(event_counts.MOVED_BYTES))


def _environment(probe: Path, counts: Path, own: bool) -> dict[str, str]:
    """Variables for the command. Other tools see neither the packages of this interpreter nor those of the user."""
    kept = filter(None, [os.environ.get("PYTHONPATH")] if own else [])
    return {
        **os.environ,
        **gl_environment(),
        "PYTHONPATH": os.pathsep.join([str(probe), str(DRIVERS), *kept]),
        "PYTHONNOUSERSITE": "1",
        event_counts.FOLDER: str(counts),
    }


def _title(name: str) -> tuple[str, str]:
    """Name with version, and the number of cameras."""
    if name in OWN_NAMES:
        return f"{name} {importlib.metadata.version('simloop')}", "2"
    return f"{name} {PEERS[name].version}", str(PEERS[name].cameras)


def measured_row(name: str, played: Played) -> Row:
    """The row of a tool that played."""
    costs, per_1000 = played.costs, 1000 / played.steps
    return (
        *_title(name),
        str(played.steps),
        Cell(played.processor_s_per_1000_steps),
        Cell(costs.until_event.processor_s),
        Cell(played.images * per_1000, decimals=0),
        Cell(played.moved_bytes * per_1000 / 1e6),
        Cell(costs.whole.peak_mib, decimals=0),
        Cell(costs.whole.wall_s),
    )


def grid(rows: Sequence[Row], tasks: Sequence[str], steps: int) -> Grid:
    """The table of all tools."""
    notes = (
        f"One episode of {', '.join(tasks)} each, of at most {steps} control steps: Meta-World, images of 224 pixels "
        "without shadows and multisampling, a policy that answers chunks of ten random actions at once.",
        "Processor time of all processes of a command. After the first step, it includes the start of further tasks, "
        "the records of the tool and its end. A run of two steps before it, not counted, fills caches.",
        "Images between processes as they are moved: raw in shared memory by simloop run, as PNG by vla-eval.",
        "Memory: largest sum of proportional set sizes over all processes. No videos are written.",
    )
    return Grid("The same episodes in simloop and in other tools", COLUMNS, (tuple(rows),), notes, labels=3)
