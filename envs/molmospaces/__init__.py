"""Suite `molmospaces`: four benchmarks of MolmoSpaces, in an interpreter of its own."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path

from simloop.envs.molmospaces import simulation
from simloop.envs.served.assets import Assets, package_folder
from simloop.envs.served.suite import ServedSuite

SOURCE = "huggingface.co/datasets/allenai/molmospaces"
COMMAND = "-m molmo_spaces.molmo_spaces_constants"


class MolmoSpaces(ServedSuite):
    """Set 1 of its benchmarks, in which DROID's Panda picks, places, opens and closes things in many houses."""

    name = "molmospaces"
    needed = ("molmo-spaces", "molmospaces-resources", "mujoco")
    default_group = "ms-bench-v1"
    file = simulation.__file__
    table = simulation.TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"ms-bench-v1": tuple(simulation.TASKS)}

    def assets(self) -> Sequence[Assets]:
        content = {
            f"benchmarks/{simulation.SET}": "recorded initial states and sentences",
            "robots/franka_droid": "the Panda of DROID, and with it houses and things, each fetched when first played",
        }
        return tuple(
            Assets(self._assets_folder() / part, what, "no size is published", SOURCE, COMMAND)
            for part, what in content.items()
        )

    def _assets_folder(self) -> Path:
        """Where MolmoSpaces looks for assets: a folder for each installation, unless one is named."""
        root = package_folder(self.interpreter, "molmo_spaces").parent
        own = base64.urlsafe_b64encode(str(root.resolve()).encode()).decode().rstrip("=")
        default = Path.home() / ".cache" / "molmospaces" / "assets" / own
        return Path(os.environ.get("MLSPACES_ASSETS_DIR", default))
