"""Suite `libero_plus`: the tasks of LIBERO under LIBERO-plus's variants of camera, arm posture, wording and noise."""

from __future__ import annotations

from collections.abc import Sequence

from simloop.envs.interface import Env, RenderSettings, TaskSpec
from simloop.envs.libero import Libero
from simloop.envs.libero_plus import paraphrases
from simloop.envs.libero_plus.tasks import NEED_ASSETS, SUITE, plus_groups, plus_tasks

ASSETS = (
    "scenes, textures and objects of assets.zip, several GB at huggingface.co/datasets/Sylvest/LIBERO-plus. Suite "
    f"{SUITE!r} has the variants that need no assets beyond LIBERO's: camera, robot, language and noise"
)


class LiberoPlus(Libero):
    """Published variants of the forty tasks of four groups of LIBERO, one task each, and the unchanged tasks.

    The sentences of the axis `language` are read from files of LIBERO-plus; without them its tasks are missing.
    """

    name = SUITE
    default_group = "libero_spatial_camera"
    golden_tasks = ()  # Those of LIBERO compare machines.

    def tasks(self) -> Sequence[TaskSpec]:
        return plus_tasks(paraphrases.folder())

    def groups(self) -> dict[str, tuple[str, ...]]:
        return plus_groups(paraphrases.folder() is not None)

    def unavailable(self, name: str) -> str | None:
        """Say which files the tasks of other axes need."""
        words = name.split("_")
        if "language" in words:
            return f"{name} of suite {SUITE!r} needs the sentences of LIBERO-plus: {paraphrases.WHERE}."
        if not NEED_ASSETS.isdisjoint(words):
            return f"{name} of LIBERO-plus needs {ASSETS}."
        return None

    def make(self, task: str, render: RenderSettings) -> Env:
        self.require_installed()
        from simloop.envs.libero_plus.simulation import LiberoPlusEnv  # robosuite takes seconds to import.

        return LiberoPlusEnv({spec.name: spec for spec in self.tasks()}[task], render)
