"""Connection of a run to Ray: an instance of its own on this machine, or an existing cluster."""

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
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import ray_constants
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simloop.harness.engine.private_ray import demands_token, private_settings, public_settings
from simloop.harness.engine.processes import KILL_TIMEOUT_S, first_line
from simloop.harness.engine.ray_services import PIPE_TO_AGENTS, without_services
from simloop.harness.engine.resources import EngineError, Resources
from simloop.harness.machine import usable_cores

OBJECT_STORE_BYTES = 256 * 2**20
"""Results pass through one at a time; Ray's default reserves 30 % of the memory."""
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
SUB_PACKAGES = ("harness", "policies", "envs", "results")
CHECKED_PACKAGES = ("mujoco", "numpy", "jax", "ray")
"""Packages whose versions must be the driver's on every node, or records would differ."""
START_WAIT = "RAY_raylet_start_wait_time_s"
OWN_INSTANCE = {
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_worker_niceness": "0",
    PIPE_TO_AGENTS: "1",
    START_WAIT: "300",
}
"""Settings of an own instance: nothing reads its statistics, which are a tenth of its cost when idle; actors have the
priority of the command, where Ray's niceness of 15 would starve them beside any other program; and half a minute is too
short for a start on a busy machine."""
INTERRUPTED_S = 10.0
"""Seconds that an interrupted start has to finish: Ray's native code may abort a program whose instance is killed while
it connects."""
MARGIN_S = 60.0
"""Seconds for the parts of a start that do not follow `START_WAIT`."""
CONNECT_TIMEOUT_S = 10.0
NODE_TIMEOUT_S = 300.0
"""Seconds for a node to unpack the code and answer for the first time."""


class RayConnection:
    """Ray as one engine uses it. An instance that was running before stays."""

    def __init__(self, resources: Resources):
        self._resources = resources
        self._opened = False

    def open(self) -> None:
        """Connect to the cluster, or start Ray here. The code and its assets are sent to the nodes of a cluster.

        Raises:
          EngineError: If there is no cluster at the address, or a node of it cannot run simloop.
        """
        if ray.is_initialized():
            return
        address = self._resources.ray_address
        if address is None:
            start_ray(num_cpus=max(self._resources.env_actors or 1, usable_cores()))
            self._opened = True
            return
        _set_environment()
        public_settings()
        try:
            _try_to_connect(address)
            with _package_to_ship() as package:
                _init(address=address, runtime_env={"py_modules": [package]})
        except OSError as error:
            raise EngineError(
                f"There is no Ray cluster at {address!r}: {error}. Start one with `ray start --head`, or omit "
                "--ray-address to use this machine alone."
            ) from error
        self._opened = True
        try:
            require_same_software(installed_versions())
        except EngineError:
            self.close()
            raise

    def warnings(self) -> list[str]:
        """Return what the user of a cluster should know, in sentences."""
        if self._resources.ray_address is None or demands_token():
            return []
        return [
            f"The Ray cluster at {self._resources.ray_address} demands no token: any host that reaches its "
            "ports can run code on its nodes. Start it with RAY_AUTH_MODE=token, or keep its ports behind a firewall."
        ]

    def close(self) -> None:
        """Disconnect, and stop the instance if it was started here."""
        if self._opened:
            ray.shutdown()
            self._opened = False

    def cores(self) -> int:
        """Return the number of cores for env actors."""
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        return cores if self._resources.ray_address is not None else min(usable_cores(), cores)

    def room(self, size: int) -> int:
        """Return how many processes of `size` bytes fit into the memory that Ray assigns."""
        return sum(int(node["Resources"].get("memory", 0) // size) for node in ray.nodes() if node["Alive"])

    def gpus(self) -> tuple[int, ...]:
        """Return the number of GPUs of each node."""
        return tuple(int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"])


def start_ray(num_cpus: int) -> None:
    """Start a private Ray instance on this machine, even if a cluster of another run is running here.

    Waits as long as a busy machine needs; a start that fails or is interrupted leaves no process behind.

    Args:
      num_cpus: Actors of one CPU that the instance places at most.

    Raises:
      EngineError: If Ray does not start.
    """
    _set_environment()
    for name, value in OWN_INSTANCE.items():
        os.environ.setdefault(name, value)
    own = {"address": "local", "num_cpus": num_cpus, "object_store_memory": OBJECT_STORE_BYTES}
    wait_s = float(os.environ[START_WAIT])
    before = set(psutil.Process().children(recursive=True))
    try:
        with private_settings() as private, without_services():
            _init(timeout_s=wait_s + MARGIN_S, include_dashboard=False, **own, **private)
    except BaseException as error:
        ray.shutdown()
        _kill_children(before)
        if not isinstance(error, Exception):
            raise
        raise EngineError(
            f"Ray did not start on this machine: {first_line(error)} If the machine is overloaded, set {START_WAIT} to "
            f"more than {wait_s:g} (seconds). Ray's temporary folder holds its log files, in session_latest/logs."
        ) from error


def _init(timeout_s: float | None = None, **options: Any) -> None:
    """Call `ray.init` in a thread, where it leaves the handler of SIGTERM alone and can be abandoned."""
    # Ray's native handler would print a trace on SIGTERM and abort this process three seconds later.
    ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    started: Future[None] = Future()

    def start() -> None:
        try:
            ray.init(**{**QUIET, **options})
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        while ray.is_initialized():  # Linux ends Ray's processes together with the thread that started them.
            time.sleep(1.0)

    threading.Thread(target=start, name="ray", daemon=True).start()
    try:
        started.result(timeout_s)
    except TimeoutError as error:
        raise EngineError(f"it took longer than {timeout_s:g} s.") from error
    except KeyboardInterrupt:
        wait([started], INTERRUPTED_S)
        raise


def _kill_children(spared: set[psutil.Process]) -> None:
    """Kill all processes below this one, except for those that are spared."""
    while children := set(psutil.Process().children(recursive=True)) - spared:
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=KILL_TIMEOUT_S)


def _try_to_connect(address: str) -> None:
    """Raise `OSError` if nothing listens at HOST:PORT, where Ray would retry for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()


def _set_environment() -> None:
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # Or Ray builds a new venv for its workers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def require_same_software(wanted: dict[str, str]) -> None:
    """Raise `EngineError` unless every node has these versions of Python and packages."""
    requests = {
        node["NodeManagerHostname"] + " " + node["NodeID"][:8]: ray.remote(installed_versions)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote()
        for node in ray.nodes()
        if node["Alive"]
    }
    for name, reference in requests.items():
        try:
            found = ray.get(reference, timeout=NODE_TIMEOUT_S)
        except (RayError, GetTimeoutError) as error:
            raise EngineError(f"Node {name} of the cluster cannot run simloop: {error}") from error
        differing = [f"{key}: {wanted[key]} -> {found[key]}" for key in wanted if wanted[key] != found[key]]
        if differing:
            raise EngineError(
                f"Node {name} of the cluster has other software than this machine: {'; '.join(differing)}. Install "
                "the same versions (scripts/setup) on every node: Ray sends the code of simloop, not its packages."
            )


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and the checked packages on the node that this runs on."""
    versions = {"python": platform.python_version()}
    for package in CHECKED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "missing"
    return versions


@contextlib.contextmanager
def _package_to_ship() -> Iterator[str]:
    """Yield a folder `simloop` with the whole package, in the form in which Ray sends one to other nodes.

    In a source tree the sub-packages lie in folders of their own, so they are copied together first.
    """
    without_caches = shutil.ignore_patterns("__pycache__")
    with tempfile.TemporaryDirectory(prefix="simloop-") as temporary:
        package = Path(temporary) / "simloop"
        shutil.copytree(_folder_of("simloop"), package, ignore=without_caches)
        for name in SUB_PACKAGES:
            if not (package / name).exists():
                shutil.copytree(_folder_of(f"simloop.{name}"), package / name, ignore=without_caches)
        yield str(package)


def _folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
