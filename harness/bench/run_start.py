"""`simloop bench start`: from the command to the first executed action, beside another checkout in turns."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from simloop.harness.bench import event_counts
from simloop.harness.bench.process_tree import TreeCost, cost_until
from simloop.harness.bench.suite_cost import markdown_row, markdown_table
from simloop.harness.errors import SimloopError
from simloop.terminal import Terminal

OLD_LAYOUT = "harness.cli"
"""Module of the command line before the sub-packages of simloop; they are tried in turn."""
PROGRAM = f"""
import importlib.util, sys
new = importlib.util.find_spec("simloop") is not None
from importlib import import_module
sys.exit(import_module("simloop.{OLD_LAYOUT}" if new else "{OLD_LAYOUT}").main())
"""


def run(task: str, policy: str, rounds: int, against: Path | None, terminal: Terminal) -> int:
    """Print a Markdown table of medians; the first start of each checkout fills its caches and is not counted."""
    checkouts = [Path.cwd()] if against is None else [Path.cwd(), against.absolute()]
    pythons = [sys.executable] + [str(checkout / ".venv" / "bin" / "python") for checkout in checkouts[1:]]
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe"
        probe.mkdir()
        shutil.copy(event_counts.__file__, probe / "sitecustomize.py")
        homes = [Path(folder) / f"home-{i}" for i in range(len(pythons))]
        starts = list(zip(pythons, checkouts, homes, strict=True))
        costs = [[_start(*start, probe, task, policy) for start in starts] for _ in range(1 + rounds)]
    terminal.print(_table(f"{policy} on {task}, second start", costs[1:]), soft_wrap=True)
    return 0


def _start(python: str, checkout: Path, home: Path, probe: Path, task: str, policy: str) -> TreeCost:
    with tempfile.TemporaryDirectory() as folder:
        counts, out = Path(folder) / "counts", Path(folder) / "run"
        counts.mkdir()

        def has_stepped() -> bool:
            return event_counts.total(counts, event_counts.STEPS) > 0

        options = ["--tasks", task, "--policies", policy, "--episodes", "1", "--out", str(out)]
        environment = {
            **os.environ,
            "SIMLOOP_HOME": str(home),
            "PYTHONPATH": os.pathsep.join([str(probe), *filter(None, [os.environ.get("PYTHONPATH")])]),
            event_counts.FOLDER: str(counts),
        }
        command = [python, "-c", PROGRAM, "run", *options]
        cost = cost_until(command, has_stepped, environment=environment, folder=checkout)
        if not has_stepped():
            raise SimloopError(
                f"The run of {checkout} executed no action of Meta-World; its tasks alone are measured."
            )
        return cost


def _table(title: str, rounds: Sequence[Sequence[TreeCost]]) -> str:
    names = {"wall_s": "wall s", "processor_s": "processor s, all processes", "peak_mib": "peak memory, MiB"}

    def medians(field: str) -> list[float]:
        return [
            statistics.median(getattr(cost, field) for cost in costs) for costs in zip(*rounds, strict=True)
        ]

    rows = [markdown_row(name, medians(field)) for field, name in names.items()]
    return markdown_table(f"{title}: until the first executed action", rows, len(rounds[0]))
