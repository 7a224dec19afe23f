"""Keep an own Ray instance private: loopback interface, a token, and process groups that no signal to ours reaches."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from ray._private import ray_constants, services

LOOPBACK = "127.0.0.1"
NO_CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray replaces a loopback address by that of the network, except where this variable forbids clusters. It is named
after the systems on which it is set by default; its processes read it everywhere."""
AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

_before: dict[str, str | None] = {}
"""Values of the variables before this process started an instance."""


@contextlib.contextmanager
def private_settings() -> Iterator[dict[str, Any]]:
    """Make an instance that is started in the block private; yields arguments of `ray.init`.

    A signal to the process group of this process leaves it alone: if Ray's processes ended first, Ray's native code
    would abort this one.

    Versions of Ray before 2.52 know no tokens and ignore them. The token stays in the environment, as later processes
    of the instance need it, until `public_settings`.
    """
    if not _before:
        _before.update({name: os.environ.get(name) for name in AUTHENTICATION})
    _set({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": str(_token_file())})
    was, forbidden = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(NO_CLUSTER)
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[NO_CLUSTER] = False, "0"
    popen = services.ConsolePopen
    services.ConsolePopen = partial(popen, process_group=0)
    try:
        yield {"_node_ip_address": LOOPBACK}
    finally:
        services.ConsolePopen = popen
        ray_constants.ENABLE_RAY_CLUSTER = was
        if forbidden is None:
            del os.environ[NO_CLUSTER]


def public_settings() -> None:
    """Undo `private_settings` before this process connects to a cluster."""
    _set(_before)
    _before.clear()


def demands_token() -> bool:
    """Whether the cluster that this process is connected to demands a token; False if its Ray knows none."""
    try:
        from ray._raylet import AuthenticationMode, get_authentication_mode  # type: ignore[attr-defined]
    except ImportError:
        return False
    return bool(get_authentication_mode() == AuthenticationMode.TOKEN)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
    except ImportError:
        return
    Config.initialize("")  # Ray has read the variables when it was imported.
    AuthenticationTokenLoader.instance().reset_cache()


@cache
def _token_file() -> Path:
    """Write the token of this process's instances where no other user can read it."""
    folder = Path(tempfile.mkdtemp(prefix="simloop-ray-"))  # With the mode 0700.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "token"
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(secrets.token_hex(32))
    return file
