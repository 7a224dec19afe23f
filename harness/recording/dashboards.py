"""Dashboards that a run can report to: TensorBoard, Weights & Biases and Prometheus."""

from __future__ import annotations

import importlib.util
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simloop.harness.errors import SimloopError
from simloop.harness.recording.run_status import Status

Dashboard = Callable[[Status], None]

PROMETHEUS_PORT = 9464
LOOPBACK = "127.0.0.1"
"""Where Prometheus is answered unless a host is named: its metrics have no protection."""
LIBRARIES = {"tensorboard": "tensorboardX", "wandb": "wandb", "prometheus": "prometheus_client"}
"""Module that reports to each dashboard."""


class DashboardError(SimloopError):
    """A dashboard is unknown or cannot be reported to."""


def require_dashboard(name: str) -> None:
    """Check the name of a dashboard: `tensorboard`, `wandb` or `prometheus[:[HOST:]PORT]`.

    Raises:
      DashboardError: If there is no such dashboard, its library is not installed, or its port is taken.
    """
    kind, colon, place = name.partition(":")
    if kind not in LIBRARIES or (colon and kind != "prometheus"):
        raise DashboardError(f"--watch takes tensorboard, wandb or prometheus[:[HOST:]PORT]; got {name!r}.")
    port = place.rpartition(":")[2]
    if colon and not (port.isdecimal() and port.isascii() and 0 < int(port) < 2**16):
        raise DashboardError(f"--watch prometheus:PORT takes a number from 1 to 65535; got {port!r}.")
    if importlib.util.find_spec(LIBRARIES[kind]) is None:
        package = LIBRARIES[kind].replace("_", "-")
        raise DashboardError(f"--watch {kind} needs the package {package}: pip install {package}.")
    if kind == "prometheus":
        host, number = _address(place)
        try:
            socket.create_server((host, number)).close()
        except OSError as error:
            raise DashboardError(f"Port {number} cannot be opened for Prometheus: {error}.") from error


def make_dashboard(name: str, folder: Path) -> Dashboard:
    """Open the dashboard of a run.

    Raises:
      DashboardError: As `require_dashboard`.
    """
    require_dashboard(name)
    kind, _, place = name.partition(":")
    if kind == "tensorboard":
        return _tensorboard(folder / "tensorboard")
    return _wandb(folder) if kind == "wandb" else _prometheus(place)


def _address(place: str) -> tuple[str, int]:
    """Split [[HOST:]PORT]."""
    host, _, port = place.rpartition(":")
    return host or LOOPBACK, int(port or PROMETHEUS_PORT)


def _tensorboard(folder: Path) -> Dashboard:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder))

    def report(status: Status) -> None:
        for name, value in status.scalars().items():
            writer.add_scalar(name, value, status.done)
        if status.in_progress:
            writer.flush()
        else:
            writer.close()

    return report


def _wandb(folder: Path) -> Dashboard:
    import wandb

    run = wandb.init(project="simloop", name=folder.name, id=_identifier(folder.name), resume="allow")

    def report(status: Status) -> None:
        run.log(status.scalars(), step=status.done)
        if not status.in_progress:
            run.finish()

    return report


def _prometheus(place: str) -> Dashboard:
    from prometheus_client import CollectorRegistry, Gauge, start_http_server

    host, port = _address(place)
    registry = CollectorRegistry()
    gauges: dict[str, Any] = {}
    try:
        start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise DashboardError(f"Port {port} cannot be opened for Prometheus: {error}.") from error

    def report(status: Status) -> None:
        for name, value in status.scalars().items():
            family, _, label = name.partition("/")
            per_policy = family in ("success", "errors")
            key = f"simloop_{family}" if per_policy else f"simloop_{_identifier(name)}"
            if key not in gauges:
                gauges[key] = Gauge(key, name, ["policy"] if per_policy else [], registry=registry)
            (gauges[key].labels(label) if per_policy else gauges[key]).set(value)

    return report


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
