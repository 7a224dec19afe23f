"""Import LIBERO and robosuite without the side effects of their imports.

By default robosuite writes a log into a shared temporary folder and warns about missing settings, and LIBERO reads its
paths from a file in the home directory, which may belong to another LIBERO.
"""

from __future__ import annotations

import simloop.envs.rendering  # isort: skip  # noqa: F401  (Selects OpenGL before robosuite does.)

import contextlib
import os
import sys
import types
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

_settings = types.ModuleType("robosuite.macros_private")
_settings.CONSOLE_LOGGING_LEVEL = "ERROR"  # type: ignore[attr-defined]
_settings.FILE_LOGGING_LEVEL = None  # type: ignore[attr-defined]
sys.modules.setdefault(_settings.__name__, _settings)
os.environ["LIBERO_CONFIG_PATH"] = str(Path(__file__).parent)  # A folder without that file.


OTHER_LIBEROS = ("libero", "libero-pro", "libero-ood")


@contextlib.contextmanager
def _quick_import() -> Iterator[None]:
    """Leave out two thirds of a second of LIBERO's import.

    LIBERO reads the metadata of all installed distributions in search of another LIBERO, where those of that name
    suffice, and imports matplotlib for the colours of a segmentation.
    """
    every = metadata.distributions
    found = [each for name in OTHER_LIBEROS for each in every(name=name)]
    unused = () if "matplotlib" in sys.modules else ("matplotlib", "matplotlib.cm")
    sys.modules.update({name: types.ModuleType(name) for name in unused})
    metadata.distributions = lambda: found  # type: ignore[assignment]
    try:
        yield
    finally:
        metadata.distributions = every
        for name in unused:
            del sys.modules[name]


with _quick_import():
    import libero.libero.envs as libero_envs

import robosuite  # noqa: E402
from robosuite.utils.binding_utils import MjSim  # noqa: E402
from robosuite.utils.control_utils import (  # noqa: E402
    nullspace_torques,
    opspace_matrices,
    orientation_error,
)
from robosuite.utils.errors import RandomizationError  # noqa: E402
from robosuite.utils.observables import Observable, sensor  # noqa: E402

PROBLEMS: dict[str, type] = libero_envs.TASK_MAPPING
"""LIBERO's environment classes by kind of scene."""

BDDL_FILES = Path(libero_envs.__file__).parent.parent / "bddl_files"
load_controller_config = robosuite.load_controller_config
problem_info = libero_envs.env_wrapper.BDDLUtils.get_problem_info

__all__ = [
    "BDDL_FILES",
    "PROBLEMS",
    "MjSim",
    "Observable",
    "RandomizationError",
    "load_controller_config",
    "nullspace_torques",
    "opspace_matrices",
    "orientation_error",
    "problem_info",
    "sensor",
]
