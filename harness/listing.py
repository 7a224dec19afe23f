"""Tables of `simloop list`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from simloop.envs import registry
from simloop.envs.interface import Suite
from simloop.envs.plugins import UnknownNameError
from simloop.harness import experiments
from simloop.harness.adapters.base import AdapterError
from simloop.harness.adapters.registry import find_adapter
from simloop.harness.planning.policy_names import parse, policy_names
from simloop.harness.planning.protocol import PROTOCOLS
from simloop.policies.interface import PolicySpec
from simloop.policies.presets import PRESETS
from simloop.results.records.perturbation_kinds import KINDS

Kind = Literal["suites", "tasks", "protocols", "policies", "experiments", "perturbations"]
Row = tuple[str, ...]

WIDTH = 100
"""Columns of a table, unless names need more: a name that is cut or wrapped cannot be copied."""


def show(kind: Kind, console: Console, only: str = "") -> None:
    """Print the names of a kind with what is needed to choose among them.

    Args:
      only: Print the rows whose name begins with this text or that belong to the suite, group or robot of that name.

    Raises:
      UnknownNameError: If no row matches.
    """
    columns, rows = _TABLES[kind]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        # The last column is prose and may wrap.
        table.add_column(column, no_wrap=column != columns[-1], overflow="fold")
    matching = [row for row in rows() if _matches(row, columns, only)]
    if not matching:
        noun = "policy" if kind == "policies" else kind.removesuffix("s")
        known = [row[columns.index(noun)] for row in rows()]
        raise UnknownNameError(f"{noun}, suite or group", only, (*registry.suites(), *known))
    for row in matching:
        table.add_row(*map(Text, row))
    needed = console.measure(table, options=console.options.update(width=1000)).minimum
    console.width = max(min(console.width, WIDTH), needed)
    console.print(table)


def _matches(row: Row, columns: tuple[str, ...], only: str) -> bool:
    wanted = only.casefold()
    for column, cell in zip(columns, row, strict=True):
        if column in ("suite", "task", "protocol", "policy", "experiment", "perturbation", "robot"):
            if cell.casefold().startswith(wanted):
                return True
        elif column in ("suites", "groups") and wanted in cell.casefold().split(", "):
            return True
    return False


def _suites() -> Iterator[Row]:
    for suite in registry.SUITES.values():
        groups = ", ".join(f"{name} ({len(tasks)})" for name, tasks in suite.groups().items())
        yield suite.name, str(len(suite.tasks())), suite.source, groups


def _tasks() -> Iterator[Row]:
    for suite in registry.SUITES.values():
        for task in suite.tasks():
            groups = ", ".join(name for name, tasks in suite.groups().items() if task.name in tasks)
            yield suite.name, task.name, str(task.max_steps), groups, task.instruction


def _protocols() -> Iterator[Row]:
    for protocol in PROTOCOLS.values():
        render = protocol.render
        steps = "the task's" if protocol.max_steps is None else str(protocol.max_steps)
        yield (
            protocol.suite, protocol.name, f"{render.profile} {render.height} x {render.width}",
            str(protocol.replan_steps), steps, protocol.sha256[:8],
        )  # fmt: skip


def _policies() -> Iterator[Row]:
    for name in policy_names():
        spec = parse(name).spec()
        suites = [suite.name for suite in registry.SUITES.values() if _plays(spec, suite)]
        yield (
            name, ("@FOLDER" if _needs_checkpoint(name) else spec.weights),
            "simulator" if spec.uses_privileged else str(len(spec.cameras) or "-"),
            *("-" if size is None else str(size) for size in (spec.state_size, spec.action_size)),
            str(spec.chunk_steps), ", ".join(suites) or f"none; robot {spec.robot}",
        )  # fmt: skip


def _needs_checkpoint(name: str) -> bool:
    return name in PRESETS and PRESETS[name].needs_checkpoint


def _plays(spec: PolicySpec, suite: Suite) -> bool:
    """Whether an adapter joins the policy to a task of the suite."""
    try:
        find_adapter(suite.name, spec).check(spec, suite.tasks()[0])
    except AdapterError:
        return False
    return True


def _experiments() -> Iterator[Row]:
    for name in experiments.EXPERIMENTS:
        yield name, experiments.summary(name)


def _perturbations() -> Iterator[Row]:
    for name, kind in KINDS.items():
        yield name, kind.unit, kind.says.format(s="S")


_TABLES: dict[Kind, tuple[tuple[str, ...], Callable[[], Iterator[Row]]]] = {
    "suites": (("suite", "tasks", "source", "groups"), _suites),
    "tasks": (("suite", "task", "steps", "groups", "instruction"), _tasks),
    "protocols": (("suite", "protocol", "images", "replan", "steps", "hash"), _protocols),
    "policies": (("policy", "weights", "cameras", "state", "action", "chunk", "suites"), _policies),
    "experiments": (("experiment", "description"), _experiments),
    "perturbations": (("perturbation", "strength S, in (0, 1]", "effect"), _perturbations),
}
