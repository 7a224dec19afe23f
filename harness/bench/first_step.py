"""Note the first control step of Meta-World in any process: copied as `sitecustomize.py`, which Python runs.

Works without simloop, so that other versions of it and other programs are measured at the same moment.
"""

import importlib.abc
import importlib.util
import os
import sys
from typing import Any

FILE = "SIMLOOP_FIRST_STEP"
"""Variable that names the file to create."""
MODULE, CLASS = "metaworld.sawyer_xyz_env", "SawyerXYZEnv"


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec: Any = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _watch(getattr(module, CLASS))

        spec.loader.exec_module = exec_module
        return spec


def _watch(environment: Any) -> None:
    """Create the file after the first step, then step as before."""
    original = environment.step

    def step(self, action):
        result = original(self, action)
        environment.step = original
        open(os.environ[FILE], "w").close()
        return result

    environment.step = step


if FILE in os.environ:
    sys.meta_path.insert(0, _Finder())
