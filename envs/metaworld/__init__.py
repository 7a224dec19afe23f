"""Suite `metaworld`: fifty table-top tasks of a Sawyer arm."""

from __future__ import annotations

from collections.abc import Sequence

from simloop.envs.interface import Env, RenderSettings, Suite, TaskSpec
from simloop.envs.metaworld.tasks import GROUPS, SUITE, TASKS


class MetaWorld(Suite):
    """Meta-World, version 3 of the tasks. Its package is imported when the first environment is made."""

    name = SUITE
    packages = ("metaworld", "mujoco")
    module = "simloop.envs.metaworld.simulation"
    changes_look = True
    default_group = "MT10"
    golden_tasks = ("reach-v3", "door-open-v3", "drawer-close-v3")

    def tasks(self) -> Sequence[TaskSpec]:
        return TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        return dict(GROUPS)

    def make(self, task: str, render: RenderSettings) -> Env:
        from simloop.envs.metaworld.simulation import MetaWorldEnv  # MuJoCo takes half a second to import.

        return MetaWorldEnv({spec.name: spec for spec in TASKS}[task], render)
