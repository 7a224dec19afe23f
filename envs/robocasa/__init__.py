"""Suite `robocasa`: kitchen tasks of RoboCasa365, in an interpreter of its own."""

from __future__ import annotations

from collections.abc import Sequence

from simloop.envs.robocasa import simulation
from simloop.envs.served.assets import Assets, package_folder
from simloop.envs.served.suite import ServedSuite


class RoboCasa(ServedSuite):
    """Atomic tasks of RoboCasa365 whose instruction is the same in every episode, in its target kitchens."""

    name = "robocasa"
    needed = ("rlinf-robocasa365", "praxis-robosuite", "mujoco")
    default_group = "atomic"
    file = simulation.__file__
    table = simulation.TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"atomic": tuple(simulation.TASKS)}

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
