"""Suite `aloha_sim`: two tasks of ALOHA's two arms in simulation."""

from __future__ import annotations

from collections.abc import Sequence

from simloop.envs.aloha_sim.tasks import GROUPS, SUITE, TASKS
from simloop.envs.interface import Env, RenderSettings, Suite, TaskSpec


class AlohaSim(Suite):
    """The tasks of gym-aloha. Its package is imported when the first environment is made."""

    name = SUITE
    packages = ("gym-aloha", "dm-control", "mujoco")
    module = "simloop.envs.aloha_sim.simulation"
    extra = "aloha"
    changes_look = True
    default_group = "all"
    golden_tasks = ("transfer_cube", "insertion")

    def tasks(self) -> Sequence[TaskSpec]:
        return TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        return dict(GROUPS)

    def make(self, task: str, render: RenderSettings) -> Env:
        self.require_installed()
        from simloop.envs.aloha_sim.simulation import AlohaEnv  # dm_control takes a second to import.

        return AlohaEnv({spec.name: spec for spec in TASKS}[task], render)
