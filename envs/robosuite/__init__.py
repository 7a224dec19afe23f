"""Suite `robosuite`: five tasks of robomimic, on robosuite 1.5 in an interpreter of its own."""

from __future__ import annotations

from simloop.envs.robosuite import simulation
from simloop.envs.served.suite import ServedSuite


class Robosuite(ServedSuite):
    """The tasks of robomimic's datasets, with its cameras, horizons and controller."""

    name = "robosuite"
    needed = ("robosuite", "mujoco")
    default_group = "robomimic"
    file = simulation.__file__
    table = simulation.TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"robomimic": tuple(simulation.TASKS)}
