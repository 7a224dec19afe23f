"""Dashboards that a run can report to: TensorBoard, Weights & Biases, Prometheus and viewers of Rerun."""

from __future__ import annotations

import importlib.util
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from simloop.harness.errors import SimloopError
from simloop.harness.recording.live_view import LiveViews, connected
from simloop.harness.recording.run_status import Status

Dashboard = Callable[[Status], None]

PORTS = {"prometheus": 9464, "rerun": 9876}
"""Default ports of the dashboards that have an address."""
LOOPBACK = "127.0.0.1"
"""Where Prometheus is answered unless a host is named: its metrics have no protection."""
LIBRARIES = {
    "tensorboard": "tensorboardX",
    "wandb": "wandb",
    "prometheus": "prometheus_client",
    "rerun": "rerun",
}
"""Module that reports to each dashboard."""
PACKAGES = {"prometheus": "prometheus-client", "rerun": "rerun-sdk"}
CONNECT_S = 2.0
"""Time for a viewer to answer."""


class DashboardError(SimloopError):
    """A dashboard is unknown or cannot be reported to."""


def require_dashboard(name: str) -> None:
    """Check the name of a dashboard: `tensorboard`, `wandb`, `prometheus[:[HOST:]PORT]` or `rerun[:[HOST:]PORT]`.

    Raises:
      DashboardError: If there is no such dashboard, its library is not installed, its port is taken, or no viewer
        answers.
    """
    kind, colon, place = name.partition(":")
    if kind not in LIBRARIES or (colon and kind not in PORTS):
        raise DashboardError(
            f"--watch takes tensorboard, wandb, prometheus[:[HOST:]PORT] or rerun[:[HOST:]PORT]; got {name!r}."
        )
    port = place.rpartition(":")[2]
    if colon and not (port.isdecimal() and port.isascii() and 0 < int(port) < 2**16):
        raise DashboardError(f"--watch {kind}:PORT takes a number from 1 to 65535; got {port!r}.")
    if importlib.util.find_spec(LIBRARIES[kind]) is None:
        package = PACKAGES.get(kind, kind)
        raise DashboardError(f"--watch {kind} needs the package {package}: pip install {package}.")
    if kind in PORTS:
        _require_address(kind, *_address(kind, place))


def _require_address(kind: str, host: str, port: int) -> None:
    try:
        if kind == "prometheus":
            socket.create_server((host, port)).close()
        else:
            socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        raise DashboardError(
            f"Port {port} cannot be opened for Prometheus: {error}."
            if kind == "prometheus"
            else f"No viewer of Rerun answers at {host}:{port} ({error}). Start one: rerun --port {port}"
        ) from error


def make_dashboard(name: str, folder: Path) -> Dashboard:
    """Open the dashboard of a run.

    Raises:
      DashboardError: As `require_dashboard`.
    """
    require_dashboard(name)
    kind, _, place = name.partition(":")
    if kind == "tensorboard":
        return _tensorboard(folder / "tensorboard")
    if kind == "rerun":
        return _rerun(_viewer(place), folder.name)
    return _wandb(folder) if kind == "wandb" else _prometheus(place)


def live_views(names: Sequence[str], run: str) -> LiveViews | None:
    """What shows the episodes of a run while they are played; None if no dashboard does."""
    places = [place for kind, _, place in (name.partition(":") for name in names) if kind == "rerun"]
    return LiveViews(_viewer(places[0]), run) if places else None


def _address(kind: str, place: str) -> tuple[str, int]:
    """Split [[HOST:]PORT]."""
    host, _, port = place.rpartition(":")
    return host or LOOPBACK, int(port or PORTS[kind])


def _viewer(place: str) -> str:
    host, port = _address("rerun", place)
    return f"rerun+http://{host}:{port}/proxy"


def _rerun(address: str, run: str) -> Dashboard:
    import rerun as rr

    stream = connected(address, run)

    def report(status: Status) -> None:
        stream.set_time("episodes", sequence=status.done)
        for name, value in status.scalars().items():
            stream.log(name, rr.Scalars(float(value)))

    return report


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

    host, port = _address("prometheus", place)
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
