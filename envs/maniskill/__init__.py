"""Suites `maniskill` and `simpler_bridge`: table-top tasks on ManiSkill 3 in an interpreter of its own."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from simloop.envs.maniskill import bridge, on_cpus, simulation
from simloop.envs.served.assets import Assets
from simloop.envs.served.suite import ServedSuite


@functools.cache
def _device(interpreter: str) -> str:
    """Vulkan device that SAPIEN uses in an interpreter; empty if there is none."""
    done = subprocess.run([interpreter, "-I", on_cpus.__file__], capture_output=True, text=True)
    return done.stdout.strip()


class SapienSuite(ServedSuite):
    """A suite whose images SAPIEN draws."""

    def renderer(self) -> str:
        if device := _device(self.interpreter):
            return device
        from simloop.envs.rendering import RenderingError  # Imports MuJoCo.

        raise RenderingError(
            f"Suite {self.name!r} cannot draw images: SAPIEN finds no Vulkan device from {self.interpreter}. Run "
            "scripts/setup maniskill, which unpacks Mesa's driver, or install mesa-vulkan-drivers 24.3 or newer and "
            "libvulkan1."
        )


class ManiSkill(SapienSuite):
    """The table-top tasks whose assets are part of the package."""

    name = "maniskill"
    needed = ("mani-skill", "sapien", "torch")
    default_group = "expert"
    file = simulation.__file__
    table = simulation.TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"expert": tuple(simulation.EXPERTS), "all": tuple(simulation.TASKS)}


class SimplerBridge(SapienSuite):
    """The four WidowX tasks of SimplerEnv, in the environment of `maniskill`."""

    name = "simpler_bridge"
    environment = "maniskill"
    needed = ManiSkill.needed
    default_group = "bridge"
    file = bridge.__file__
    table = bridge.TASKS

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"bridge": tuple(bridge.TASKS)}

    def assets(self) -> Sequence[Assets]:
        data = Path(os.environ.get("MS_ASSET_DIR", Path.home() / ".maniskill")) / "data"
        command = "-m mani_skill.utils.download_asset"
        return (
            Assets(
                data / "tasks" / "bridge_v2_real2sim_dataset",
                "scenes, things and photographs of BridgeData V2",
                "82 MB",
                "huggingface.co/datasets/haosulab/ManiSkill_bridge_v2_real2sim",
                f"{command} bridge_v2_real2sim",
            ),
            Assets(
                data / "robots" / "widowx",
                "the WidowX arm",
                "an archive of a repository",
                "github.com/haosulab/ManiSkill-WidowX250S",
                f"{command} widowx250s",
            ),
        )
