"""The Ray that a run uses: one of its own on this machine, or a cluster that is there."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simloop.harness.engine.resources import EngineError, Resources, usable_cores

OBJECT_STORE_BYTES = 256 * 2**20  # Results pass through one at a time; the default takes 30 % of RAM.
START_ATTEMPTS = 4
QUIETLY: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
SUB_PACKAGES = ("harness", "policies", "envs", "results")
_NOT_SHIPPED = shutil.ignore_patterns("__pycache__")
ALIKE = ("mujoco", "numpy", "jax", "ray")
"""Packages whose versions must be those of the driver on every machine, or records would differ."""
UNWATCHED = {"RAY_enable_metrics_collection": "0", "RAY_event_stats": "0"}
"""For a Ray of our own: statistics of itself that nobody reads, a tenth of what it costs while it does nothing."""
UNUSED = ("ray/_private/log_monitor.py", "ray/autoscaler/_private/monitor.py", "ray/dashboard/dashboard.py")
"""Processes of a Ray of our own that nobody asks anything: a quarter of what it costs while it does nothing. They
send what actors print to a driver that wants none of it, look for machines to add, and wait for a browser."""
CALL_S = 10.0  # For a cluster to take a call.
NODE_TIMEOUT_S = 300.0  # For a machine to unpack the code and to answer for the first time.


class RayConnection:
    """Opened and closed with the engine. A Ray that was there before stays."""

    def __init__(self, resources: Resources):
        self._resources = resources
        self._own = False

    def open(self) -> None:
        """Connect, or start Ray here. Code and the assets in it are sent to the machines of a cluster.

        Raises:
          EngineError: If there is no cluster at the address, or a machine of it cannot play.
        """
        if ray.is_initialized():
            return
        if self._resources.ray_address is None:
            start_ray(num_cpus=max(self._resources.env_actors or 1, usable_cores()))
            self._own = True
            return
        _prepare_environment()
        try:
            _call(self._resources.ray_address)
            with _package_to_ship() as package:
                ray.init(
                    address=self._resources.ray_address, runtime_env={"py_modules": [package]}, **QUIETLY
                )
        except OSError as error:
            raise EngineError(
                f"There is no Ray cluster at {self._resources.ray_address!r}: {error}. Start one with "
                "`ray start --head`, or leave --ray-address out to use this machine alone."
            ) from error
        self._own = True
        try:
            require_alike_nodes(installed())
        except EngineError:
            self.close()
            raise

    def close(self) -> None:
        """Leave it, and stop it if it was started here."""
        if self._own:
            ray.shutdown()
            self._own = False

    def cores(self) -> int:
        """Cores that may simulate."""
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        return cores if self._resources.ray_address is not None else min(usable_cores(), cores)

    def room(self, size: int) -> int:
        """Processes of `size` bytes that there is memory for, with what Ray leaves to others left out."""
        return sum(int(node["Resources"].get("memory", 0) // size) for node in ray.nodes() if node["Alive"])

    def gpus(self) -> tuple[int, ...]:
        """GPUs of each machine."""
        return tuple(int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"])


def start_ray(**options: Any) -> None:
    """Start a Ray on this machine, with more patience than Ray has: half a minute is little on a busy one.

    A new one, also where another cluster runs here already, which may be anybody's.

    Raises:
      EngineError: If it does not start.
    """
    _prepare_environment()
    for name, value in UNWATCHED.items():
        os.environ.setdefault(name, value)
    own = {"address": "local", "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    for attempt in range(START_ATTEMPTS):
        try:
            ray.init(**{**own, **QUIETLY, **options})
            _end_unused()
            return
        except Exception as error:
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if attempt == START_ATTEMPTS - 1:
                raise EngineError(f"Ray does not start on this machine; is it overloaded? {error}") from error


def _end_unused() -> None:
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # It has ended by itself.
            if any(part.endswith(UNUSED) for part in process.cmdline()):
                process.kill()  # Asked to end, the autoscaler would tell of it as a failure.


def _call(address: str) -> None:
    """Raise `OSError` if nobody is at HOST:PORT, which Ray would try again and again for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), CALL_S).close()


def _prepare_environment() -> None:
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # Or Ray builds a new venv for its workers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def require_alike_nodes(wanted: dict[str, str]) -> None:
    """Raise `EngineError` unless every machine of the cluster has these versions of Python and packages."""
    asked = {
        node["NodeManagerHostname"] + " " + node["NodeID"][:8]: ray.remote(installed)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote()
        for node in ray.nodes()
        if node["Alive"]
    }
    for name, reference in asked.items():
        try:
            found = ray.get(reference, timeout=NODE_TIMEOUT_S)
        except (RayError, GetTimeoutError) as error:
            raise EngineError(f"Machine {name} of the cluster cannot run simloop: {error}") from error
        differing = [f"{key}: {wanted[key]} -> {found[key]}" for key in wanted if wanted[key] != found[key]]
        if differing:
            raise EngineError(
                f"Machine {name} of the cluster has other software than this one: {'; '.join(differing)}. Install "
                "the same (scripts/setup) on every machine: simloop's own code travels, packages do not."
            )


def installed() -> dict[str, str]:
    """Versions on the machine that this runs on."""
    versions = {"python": platform.python_version()}
    for package in ALIKE:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "missing"
    return versions


@contextlib.contextmanager
def _package_to_ship() -> Iterator[str]:
    """A folder `simloop` that holds the whole package, as Ray ships one to other nodes.

    In a source tree the sub-packages lie in folders of their own, so they are copied together first.
    """
    with tempfile.TemporaryDirectory(prefix="simloop-") as temporary:
        package = Path(temporary) / "simloop"
        shutil.copytree(_folder_of("simloop"), package, ignore=_NOT_SHIPPED)
        for name in SUB_PACKAGES:
            if not (package / name).exists():
                shutil.copytree(_folder_of(f"simloop.{name}"), package / name, ignore=_NOT_SHIPPED)
        yield str(package)


def _folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
