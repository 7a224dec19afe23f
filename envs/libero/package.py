"""LIBERO and robosuite as imported modules, without what their import would do to a user's machine.

Left alone, robosuite writes a log into a shared temporary folder and complains of settings it cannot find, and
LIBERO takes its paths from a file in the user's home, where another LIBERO may have put its own.
"""

from __future__ import annotations

import simloop.envs.rendering  # isort: skip  # noqa: F401  (Chooses the OpenGL that robosuite would otherwise choose.)

import os
import sys
import types
from pathlib import Path

_settings = types.ModuleType("robosuite.macros_private")
_settings.CONSOLE_LOGGING_LEVEL = "ERROR"  # type: ignore[attr-defined]
_settings.FILE_LOGGING_LEVEL = None  # type: ignore[attr-defined]
sys.modules.setdefault(_settings.__name__, _settings)
os.environ["LIBERO_CONFIG_PATH"] = str(Path(__file__).parent)  # A folder without such a file.

import libero.libero.envs as libero_envs  # noqa: E402
import robosuite  # noqa: E402
from robosuite.utils.errors import RandomizationError  # noqa: E402
from robosuite.utils.observables import Observable, sensor  # noqa: E402

PROBLEMS: dict[str, type] = libero_envs.TASK_MAPPING
"""LIBERO's environments, one for each kind of scene."""

BDDL_FILES = Path(libero_envs.__file__).parent.parent / "bddl_files"
load_controller_config = robosuite.load_controller_config
problem_info = libero_envs.env_wrapper.BDDLUtils.get_problem_info

__all__ = [
    "BDDL_FILES",
    "PROBLEMS",
    "Observable",
    "RandomizationError",
    "load_controller_config",
    "problem_info",
    "sensor",
]
