"""Check shapes and types of everything under test while it runs, and compile it cheaply."""

import atexit
import os
import shutil
import tempfile

from hypothesis import settings

from tests.helpers import type_checks
from tests.helpers.xla import QUICK_FLAGS

_HOOK = type_checks.install("simloop")

# The duration of an example depends on the machine, not on the code.
settings.register_profile("simloop", deadline=None)
settings.load_profile("simloop")

# The processes that tests start inherit these, Ray's included. JAX reads them when it starts its backend.
os.environ.setdefault("XLA_FLAGS", QUICK_FLAGS)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # It is there in the workers of pytest-xdist.
    _CACHE = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="simloop-tests-compiled-")
    atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
