"""Start an own Ray instance without the services that nothing of a run asks: five Python processes of each start.

The autoscaler, the log monitor, the dashboard and its agent, and the agent of runtime environments take more
processor time and memory than the first episode. GCS and the raylet remain.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

import ray
from ray._private import services
from ray._private.node import Node

AGENTS = ("--dashboard_agent_command", "--runtime_env_agent_command")
STAND_IN = ("/bin/sh", "-c", "exec cat", "agent")
"""The raylet ends when an agent ends, so each is replaced by a process that lasts until its input is closed, which
happens when the raylet ends. Further arguments are ignored."""
PIPE_TO_AGENTS = "RAY_enable_pipe_based_agent_to_parent_health_check"
"""Setting that makes the raylet give its agents such an input."""
PORTS = ("METRICS_AGENT", "METRICS_EXPORT", "DASHBOARD_AGENT_LISTEN", "RUNTIME_ENV_AGENT")
NO_PORT = -1
"""What an agent reports that does not listen."""


@contextlib.contextmanager
def without_services() -> Iterator[None]:
    """Start an instance in the block without services; it has no runtime environments.

    A version of Ray whose raylet does not learn the ports of its agents from files starts with all of them.
    """
    if not hasattr(ray._raylet, "persist_port"):
        yield
        return
    popen = services.ConsolePopen
    methods = {
        name: getattr(Node, name) for name in ("start_monitor", "start_log_monitor", "start_api_server")
    }
    services.ConsolePopen = partial(_start, popen)
    for name in methods:
        setattr(Node, name, _start_nothing)
    try:
        yield
    finally:
        services.ConsolePopen = popen
        for name, method in methods.items():
            setattr(Node, name, method)


def _start_nothing(self: Node, **options: Any) -> None:
    """Take the place of a method of `Node` that starts a process."""


def _start(popen: Any, command: list[str], **options: Any) -> Any:
    """Start a process of Ray; for the raylet, report its agents to be there and replace them."""
    values = dict(argument.split("=", 1) for argument in command if "=" in argument)
    if not set(AGENTS) <= values.keys():
        return popen(command, **options)
    for name in PORTS:
        port_name = getattr(ray._raylet, f"{name}_PORT_NAME")
        ray._raylet.persist_port(values["--session_dir"], values["--node_id"], port_name, NO_PORT)
    replaced = {agent: f"{agent}={subprocess.list2cmdline(STAND_IN)}" for agent in AGENTS}
    return popen([replaced.get(argument.split("=", 1)[0], argument) for argument in command], **options)
