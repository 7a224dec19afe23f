"""Dashboards that a run can report to, each through its own library."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simloop.harness.errors import SimloopError
from simloop.harness.recording.run_status import Status

Watcher = Callable[[Status], None]

PROMETHEUS_PORT = 9464


class DashboardError(SimloopError):
    """A dashboard that cannot be reported to."""


def make_dashboard(name: str, folder: Path) -> Watcher:
    """A dashboard by its name: `tensorboard`, `wandb`, or `prometheus[:PORT]`.

    Raises:
      WatcherError: If there is none of that name, or its library is not installed.
    """
    kind, _, option = name.partition(":")
    if kind == "tensorboard":
        return _tensorboard(folder / "tensorboard")
    if kind == "wandb":
        return _wandb(folder)
    if kind == "prometheus":
        if option and not option.isdigit():
            raise DashboardError(f"--watch prometheus:PORT takes a number; got {option!r}.")
        return _prometheus(int(option or PROMETHEUS_PORT))
    raise DashboardError(f"--watch takes tensorboard, wandb or prometheus[:PORT]; got {name!r}.")


def _tensorboard(folder: Path) -> Watcher:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder))

    def watch(status: Status) -> None:
        for name, value in status.scalars().items():
            writer.add_scalar(name, value, status.done)
        if status.goes_on:
            writer.flush()
        else:
            writer.close()

    return watch


def _wandb(folder: Path) -> Watcher:
    try:
        import wandb
    except ImportError as error:
        raise DashboardError("--watch wandb needs the package wandb: pip install wandb.") from error
    run = wandb.init(project="simloop", name=folder.name, id=_identifier(folder.name), resume="allow")

    def watch(status: Status) -> None:
        run.log(status.scalars(), step=status.done)
        if not status.goes_on:
            run.finish()

    return watch


def _prometheus(port: int) -> Watcher:
    try:
        from prometheus_client import CollectorRegistry, Gauge, start_http_server
    except ImportError as error:
        raise DashboardError(
            "--watch prometheus needs the package prometheus-client: pip install prometheus-client."
        ) from error
    registry = CollectorRegistry()
    gauges: dict[str, Any] = {}
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        raise DashboardError(f"Port {port} cannot be opened for Prometheus: {error}.") from error

    def watch(status: Status) -> None:
        for name, value in status.scalars().items():
            family, _, label = name.partition("/")
            per_policy = family in ("success", "errors")
            key = f"simloop_{family}" if per_policy else f"simloop_{_identifier(name)}"
            if key not in gauges:
                gauges[key] = Gauge(key, name, ["policy"] if per_policy else [], registry=registry)
            (gauges[key].labels(label) if per_policy else gauges[key]).set(value)

    return watch


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
