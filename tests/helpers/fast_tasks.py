"""Tasks that the fast tests simulate; the nightly tests simulate every other task of every suite."""

from collections.abc import Sequence

import pytest

from simloop.envs import registry
from simloop.envs.interface import TaskSpec


def is_fast(task: TaskSpec) -> bool:
    """Whether a task is one of the golden tasks of its suite; of LIBERO, which starts in seconds, the first alone."""
    golden = registry.suite(task.suite).golden_tasks
    return task.name in (golden[:1] if task.suite == "libero" else golden)


VARIANTS_A_GROUP = 2
"""Of each group of LIBERO-plus, whose thousands of tasks differ in numbers alone."""


def some_variants() -> set[str]:
    """Tasks of LIBERO-plus from the beginning to the end of each group."""
    groups = registry.suite("libero_plus").groups().values()
    return {name for names in groups for name in names[:: -(-len(names) // VARIANTS_A_GROUP)]}


def marks(task: TaskSpec) -> tuple[pytest.MarkDecorator, ...]:
    """None for fast tasks, slow for one variant of each axis of LIBERO-plus, nightly for others."""
    groups = registry.suite(task.suite).groups() if task.suite == "libero_plus" else {}
    if any(
        groups[f"libero_spatial_{axis}"][0] == task.name for axis in ("camera", "robot", "noise") if groups
    ):
        return (pytest.mark.slow,)
    return () if is_fast(task) else (pytest.mark.nightly,)


def every_task() -> Sequence:
    """Every task of every suite, of LIBERO-plus some, as a pytest parameter with its mark."""
    variants = some_variants()
    return [
        pytest.param(task, id=f"{suite}/{task.name}", marks=marks(task))
        for suite in registry.suites()
        for task in registry.suite(suite).tasks()
        if suite != "libero_plus" or task.name in variants
    ]
