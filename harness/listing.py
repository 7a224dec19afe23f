"""Tables of `simloop list`. Each imports what it shows when it is shown, so that the command answers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.text import Text

from simloop.envs import registry
from simloop.envs.plugins import UnknownNameError

if TYPE_CHECKING:
    from simloop.envs.interface import Suite
    from simloop.policies.interface import PolicySpec

Kind = Literal["suites", "tasks", "protocols", "policies", "experiments", "perturbations"]
Row = tuple[str, ...]


def show(kind: Kind, console: Console, only: str = "") -> None:
    """Print the names of a kind with what is needed to choose among them, a line each, which nothing cuts or wraps.

    Args:
      only: Print the rows that belong to the suite, group or robot of this name, or whose name begins with it.

    Raises:
      UnknownNameError: If no row matches.
    """
    columns, rows = _TABLES[kind]
    matching = [row for row in rows() if _matches(row, columns, only)]
    if not matching:
        noun = "policy" if kind == "policies" else kind.removesuffix("s")
        known = [row[columns.index(noun)] for row in rows()]
        raise UnknownNameError(f"{noun}, suite or group", only, (*registry.suites(), *known))
    widths = [max(map(len, cells)) for cells in zip(columns, *matching, strict=True)]
    head, *lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (columns, *matching)
    )
    console.print(Text(head, "dim"), soft_wrap=True)
    console.print("\n".join(lines), soft_wrap=True)


def _matches(row: Row, columns: tuple[str, ...], only: str) -> bool:
    wanted = only.casefold()
    is_suite = "suite" in columns and wanted in registry.suites()  # `libero` does not stand for `libero_pro`.
    for column, cell in zip(columns, row, strict=True):
        found = cell.casefold()
        if column in ("suites", "groups"):
            matches = wanted in found.split(", ")
        elif column in ("suite", "task", "protocol", "policy", "experiment", "perturbation", "robot"):
            matches = found == wanted if is_suite else found.startswith(wanted)
        else:
            matches = False
        if matches:
            return True
    return False


def _suites() -> Iterator[Row]:
    for suite in registry.SUITES.values():
        groups = ", ".join(f"{name} ({len(tasks)})" for name, tasks in suite.groups().items())
        yield suite.name, str(len(suite.tasks())), suite.source, groups


def _tasks() -> Iterator[Row]:
    for suite in registry.SUITES.values():
        members = {name: frozenset(tasks) for name, tasks in suite.groups().items()}
        for task in suite.tasks():
            groups = ", ".join(name for name, tasks in members.items() if task.name in tasks)
            yield suite.name, task.name, str(task.max_steps), groups, task.instruction


def _protocols() -> Iterator[Row]:
    from simloop.harness.planning.protocol import PROTOCOLS

    for protocol in PROTOCOLS.values():
        render = protocol.render
        steps = "the task's" if protocol.max_steps is None else str(protocol.max_steps)
        yield (
            protocol.suite, protocol.name, f"{render.profile} {render.height} x {render.width}",
            str(protocol.replan_steps), steps, protocol.sha256[:8],
        )  # fmt: skip


def _policies() -> Iterator[Row]:
    from simloop.harness.planning.policy_names import parse, policy_names

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
    from simloop.policies.presets import PRESETS

    return name in PRESETS and PRESETS[name].needs_checkpoint


def _plays(spec: PolicySpec, suite: Suite) -> bool:
    """Whether an adapter joins the policy to a task of the suite."""
    from simloop.harness.adapters.base import AdapterError
    from simloop.harness.adapters.registry import find_adapter

    try:
        find_adapter(suite.name, spec).check(spec, suite.tasks()[0])
    except AdapterError:
        return False
    return True


def _experiments() -> Iterator[Row]:
    from simloop.harness import experiments

    for name in experiments.EXPERIMENTS:
        yield name, experiments.summary(name)


def _perturbations() -> Iterator[Row]:
    from simloop.results.records.perturbation_kinds import KINDS

    for name, kind in KINDS.items():
        yield name, f"{kind.most:g}", kind.unit, kind.says.format(s="S")


_TABLES: dict[Kind, tuple[tuple[str, ...], Callable[[], Iterator[Row]]]] = {
    "suites": (("suite", "tasks", "source", "groups"), _suites),
    "tasks": (("suite", "task", "steps", "groups", "instruction"), _tasks),
    "protocols": (("suite", "protocol", "images", "replan", "steps", "hash"), _protocols),
    "policies": (("policy", "weights", "cameras", "state", "action", "chunk", "suites"), _policies),
    "experiments": (("experiment", "description"), _experiments),
    "perturbations": (("perturbation", "largest S", "strength S", "effect"), _perturbations),
}
