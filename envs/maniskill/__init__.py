"""Suite `maniskill`: table-top tasks of a Panda arm, on ManiSkill 3 in an interpreter of its own."""

from __future__ import annotations

from simloop.envs.maniskill import simulation
from simloop.envs.served.suite import ServedSuite


class ManiSkill(ServedSuite):
    """The table-top tasks whose assets are part of the package."""

    name = "maniskill"
    needed = ("mani-skill", "sapien", "torch")
    default_group = "expert"
    file = simulation.__file__
    table = simulation.TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"expert": tuple(simulation.EXPERTS), "all": tuple(simulation.TASKS)}
