"""What `simloop list` shows."""

from __future__ import annotations

from typing import Literal

from rich.console import Console
from rich.table import Table

from simloop.envs import registry
from simloop.harness import experiments
from simloop.harness.planning.policy_names import parse, policy_names
from simloop.harness.planning.protocol import NAMED
from simloop.policies.presets import PRESETS
from simloop.results.records.perturbation_kinds import KINDS


def show(
    what: Literal["suites", "tasks", "protocols", "policies", "experiments", "perturbations"],
    console: Console,
) -> None:
    """Print all names of a kind, with what one needs to know to choose."""
    shows = {
        "suites": _suites,
        "tasks": _tasks,
        "protocols": _protocols,
        "policies": _policies,
        "experiments": _experiments,
        "perturbations": _perturbations,
    }
    shows[what](console)


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _print(console: Console, table: Table) -> None:
    """Print at the table's own width: names that are cut or broken over lines cannot be copied."""
    wide = console.options.update(width=1000)
    console.width = max(console.width, console.measure(table, options=wide).maximum)
    console.print(table)


def _suites(console: Console) -> None:
    table = _table("suite", "tasks", "groups", "source")
    for suite in map(registry.suite, registry.suites()):
        groups = ", ".join(f"{name} ({len(tasks)})" for name, tasks in suite.groups().items())
        table.add_row(suite.name, str(len(suite.tasks())), groups, suite.source)
    _print(console, table)


def _tasks(console: Console) -> None:
    table = _table("suite", "task", "groups", "steps", "instruction")
    for suite in map(registry.suite, registry.suites()):
        for task in suite.tasks():
            groups = ", ".join(name for name, tasks in suite.groups().items() if task.name in tasks)
            table.add_row(suite.name, task.name, groups, str(task.max_steps), task.instruction)
    _print(console, table)


def _protocols(console: Console) -> None:
    table = _table("suite", "protocol", "pictures", "replan", "steps", "hash")
    for protocol in NAMED.values():
        picture = f"{protocol.render.profile} {protocol.render.height} x {protocol.render.width}"
        steps = "the task's" if protocol.max_steps is None else str(protocol.max_steps)
        table.add_row(
            protocol.suite, protocol.name, picture, str(protocol.replan_steps), steps, protocol.sha256[:8]
        )
    _print(console, table)


def _policies(console: Console) -> None:
    table = _table("policy", "robot", "weights", "cameras", "state", "actions", "chunk")
    for name in policy_names():
        spec = parse(name).spec()
        table.add_row(
            name,
            spec.robot,
            "checkpoint" if name in PRESETS and PRESETS[name].needs_checkpoint else spec.weights,
            ", ".join(spec.cameras) or ("simulator state" if spec.uses_privileged else "-"),
            _size(spec.state_size),
            _size(spec.action_size),
            str(spec.chunk_steps),
        )
    _print(console, table)


def _size(size: int | None) -> str:
    return "-" if size is None else str(size)


def _experiments(console: Console) -> None:
    table = _table("experiment", "what it runs")
    for name in experiments.names():
        table.add_row(name, experiments.summary(name))
    _print(console, table)


def _perturbations(console: Console) -> None:
    table = _table("perturbation", "strength S, in (0, 1]", "what it does")
    for name, kind in KINDS.items():
        table.add_row(name, kind.unit, kind.says.format(s="S"))
    _print(console, table)
