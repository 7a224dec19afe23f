"""Tasks that the fast tests simulate; the nightly tests simulate every other task of every suite."""

from collections.abc import Sequence

import pytest

from simloop.envs import registry
from simloop.envs.interface import TaskSpec


def is_fast(task: TaskSpec) -> bool:
    """Whether a task is one of the golden tasks of its suite; of LIBERO, which starts in seconds, the first alone."""
    golden = registry.suite(task.suite).golden_tasks
    return task.name in (golden[:1] if task.suite == "libero" else golden)


def every_task() -> Sequence:
    """Every task of every suite as a pytest parameter, marked nightly unless it is fast."""
    return [
        pytest.param(task, id=f"{suite}/{task.name}", marks=() if is_fast(task) else (pytest.mark.nightly,))
        for suite in registry.suites()
        for task in registry.suite(suite).tasks()
    ]
