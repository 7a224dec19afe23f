"""Suite `robocasa`: kitchen tasks of RoboCasa365, in an interpreter of its own."""

from __future__ import annotations

from collections.abc import Sequence

from simloop.envs.robocasa import simulation
from simloop.envs.served.assets import Assets, package_folder
from simloop.envs.served.suite import ServedSuite


class RoboCasa(ServedSuite):
    """The fifty target tasks of RoboCasa365's leaderboard, in its target kitchens."""

    name = "robocasa"
    needed = ("rlinf-robocasa365", "praxis-robosuite", "mujoco")
    default_group = "atomic_seen"
    file = simulation.__file__
    table = simulation.TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        groups = {name: tuple(tasks) for name, tasks in simulation.HORIZONS.items()}
        return {**groups, "target50": tuple(simulation.TASKS)}

    def assets(self) -> Sequence[Assets]:
        return (
            Assets(
                package_folder(self.interpreter, "robocasa") / "models" / "assets" / "objects",
                "textures, fixtures and objects of its kitchens",
                "about 10 GB",
                "utexas.box.com",
                "-m robocasa.scripts.download_kitchen_assets",
            ),
        )
