"""Count what a simulation does in any process: copied as `sitecustomize.py`, which Python runs at its start.

Works without simloop, so that other versions of it and other programs are counted in the same way. Every event appends
a line with its amount to a file, which costs two microseconds and survives processes that are killed.
"""

import functools
import importlib.abc
import importlib.util
import os
import sys
from typing import Any

FOLDER = "SIMLOOP_EVENT_COUNTS"
"""Variable that names an existing folder for the files."""
STEPS, PICTURES, MOVED_BYTES = "steps", "pictures", "moved_bytes"
"""Files: control steps of Meta-World, images that MuJoCo draws, and bytes of images for other processes."""


def _one(arguments, result):
    return 1


def _encoded(arguments, result):
    return len(result["data"])


def _shared(arguments, result):
    _, query, *_ = arguments
    return sum(image.nbytes for image in query.images.values())


WATCHED = {
    "metaworld.sawyer_xyz_env": ("SawyerXYZEnv.step", STEPS, _one),
    "mujoco._render": ("mjr_render", PICTURES, _one),
    "simloop.harness.serving.shm_channel": ("ShmChannel._write", MOVED_BYTES, _shared),
    "vla_eval.protocol.image_codec": ("encode_image", MOVED_BYTES, _encoded),
}
"""For each module: the function that is counted, the file, and the amount given its arguments and result."""


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self):
        self._pending = set(WATCHED)

    def find_spec(self, name, path, target=None):
        if name not in self._pending:
            return None
        self._pending.remove(name)
        spec: Any = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _watch(module, *WATCHED[name])

        spec.loader.exec_module = exec_module
        return spec


def _watch(module, function, file, amount):
    """Replace a function, or a method of a class, by one that counts its calls."""
    *owners, name = function.split(".")
    owner = functools.reduce(getattr, owners, module)
    original = getattr(owner, name)
    counts = os.open(os.path.join(os.environ[FOLDER], file), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    @functools.wraps(original)
    def counted(*arguments, **options):
        result = original(*arguments, **options)
        os.write(counts, b"%d\n" % amount(arguments, result))
        return result

    setattr(owner, name, counted)


def total(folder, file):
    """Return the sum of the amounts that all processes have written; 0 without any."""
    try:
        with open(os.path.join(folder, file)) as counts:
            return sum(map(int, counts))
    except FileNotFoundError:
        return 0


if FOLDER in os.environ:
    sys.meta_path.insert(0, _Finder())
