"""`simloop bench suite`: what environments cost, beside another checkout in turns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simloop.envs import registry
from simloop.harness.bench import suite_probe
from simloop.harness.errors import SimloopError
from simloop.terminal import Terminal

SCENES = ("KITCHEN_SCENE3", "KITCHEN_SCENE4", "LIVING_ROOM_SCENE2", "STUDY_SCENE1", "pick_up_the_black_bowl")
"""Beginnings of the names of LIBERO's tasks in five scenes; two tasks of each are played."""
ENVS_PER_TASK = 4


def sample_tasks(suite: str) -> list[str]:
    """Return the tasks that are measured by default; the first two of LIBERO share a scene."""
    if suite != "libero":
        return list(registry.suite(suite).golden_tasks)
    names = [spec.name for spec in registry.suite(suite).tasks()]
    return [name for scene in SCENES for name in [name for name in names if name.startswith(scene)][:2]]


def run(
    suite: str, tasks: Sequence[str], steps: int, rounds: int, against: Path | None, terminal: Terminal
) -> int:
    """Print Markdown tables; returns 1 if states differ from those of the other checkout."""
    tasks = list(tasks) or sample_tasks(suite)
    pythons = [sys.executable] + ([_python_of(against)] if against else [])
    terminal.print(_start_table(suite, tasks[0], rounds, pythons), soft_wrap=True)
    terminal.print(_memory_table(suite, tasks, pythons), soft_wrap=True)
    table, equal = _step_table(suite, tasks, steps, rounds, pythons)
    terminal.print(table, soft_wrap=True)
    return 0 if equal else 1


def _start_table(suite: str, task: str, rounds: int, pythons: list[str]) -> str:
    _probe(pythons[0], "start", suite, task)  # Fills the caches.
    seconds = [[_probe(python, "start", suite, task) for python in pythons] for _ in range(rounds)]
    rows = [markdown_row("start to first picture, processor s", columns) for columns in seconds]
    return markdown_table(f"{suite}, {task}", rows, len(pythons))


def _memory_table(suite: str, tasks: list[str], pythons: list[str]) -> str:
    made = [tasks[0]] * ENVS_PER_TASK + tasks[1:2]
    sizes = [_probe(python, "memory", suite, made) for python in pythons]
    names = [f"unique memory with {n + 1} of one task, MiB" for n in range(ENVS_PER_TASK)]
    names += [f"and one of {task}" for task in tasks[1:2]]
    rows = [markdown_row(name, [size[i] for size in sizes]) for i, name in enumerate(names)]
    return markdown_table(f"{suite}, {tasks[0]}", rows, len(pythons))


def _step_table(
    suite: str, tasks: list[str], steps: int, rounds: int, pythons: list[str]
) -> tuple[str, bool]:
    rows, means, equal = [], [], True
    for task in tasks:
        played = [[_probe(python, "steps", suite, task, steps) for python in pythons] for _ in range(rounds)]
        equal &= len({digest for columns in played for _, digest in columns}) == 1
        means.append([statistics.mean(ms) for ms in zip(*([ms for ms, _ in c] for c in played), strict=True)])
        rows.append(markdown_row(task, means[-1]))
    rows.append(markdown_row("mean", [statistics.mean(column) for column in zip(*means, strict=True)]))
    states = f"; states {'equal' if equal else 'DIFFER'}" if len(pythons) > 1 or rounds > 1 else ""
    return markdown_table(
        f"{suite}: control step of {steps}, processor ms{states}", rows, len(pythons)
    ), equal


def markdown_row(name: str, values: Sequence[float]) -> str:
    """Return a row of values, with the ratio of the first to the second if there are two."""
    cells = [f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in values]
    if len(values) == 2:
        cells.append(f"{values[0] / values[1]:.2f}")
    return f"| {name} | {' | '.join(cells)} |"


def markdown_table(title: str, rows: list[str], columns: int) -> str:
    """Return a table of this checkout, or of this one and another."""
    heads = ["here"] if columns == 1 else ["here", "there", "ratio"]
    return "\n".join([f"| {title} | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads), *rows, ""])


def _python_of(checkout: Path) -> str:
    python = checkout / ".venv" / "bin" / "python"
    if not python.is_file():
        raise SimloopError(
            f"--against takes a checkout of simloop that was set up; {python} does not exist. Make one with "
            "'git worktree add FOLDER COMMIT' and run 'scripts/setup libero' in it."
        )
    return str(python.absolute())


def _probe(python: str, measure: str, *arguments: Any) -> Any:
    """Measure in a fresh process."""
    command = [python, "-P", suite_probe.__file__, json.dumps([measure, arguments])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SimloopError(f"{python} did not measure {measure} of {arguments}:\n{done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])
