"""Processes of a run as the engine sees them: heartbeats, kills, and lost nodes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat, WorkerHeartbeat

Post = Callable[[str, Any, "Future[Any]"], None]
"""Puts the outcome of a future into the engine's event queue: `post(kind, tag, future)`."""

CONNECT_TIMEOUT_S = 2.0
KILL_TIMEOUT_S = 30.0

Heartbeat = TypeVar("Heartbeat", EnvActorHeartbeat, WorkerHeartbeat)


@dataclass(eq=False, kw_only=True)
class Process(Generic[Heartbeat]):
    """A Ray actor and its heartbeats."""

    handle: Any
    heartbeat: Heartbeat | None = None
    """The latest heartbeat of the current process; None until it has sent one."""
    previous: Heartbeat | None = None
    """The heartbeat before the latest."""
    polled: bool = False
    """Whether a heartbeat has been requested and has not arrived."""
    heard_at: float
    """When the latest heartbeat arrived or, before the first, when the process was started."""

    def poll(self, post: Post, kind: str) -> None:
        """Request a heartbeat; an event of this kind carries it."""
        self.polled = True
        post(kind, self, self.handle.heartbeat.remote().future())

    def poll_if_due(self, post: Post, kind: str, now: float, every_s: float) -> None:
        """Request a heartbeat unless one is under way or the latest is recent."""
        if not self.polled and now - self.heard_at >= every_s:
            self.poll(post, kind)

    def take(self, heartbeat: Heartbeat, now: float) -> None:
        """Store a heartbeat that has arrived."""
        self.polled, self.heard_at = False, now
        self.previous, self.heartbeat = self.heartbeat, heartbeat

    def silent_s(self, now: float) -> float:
        """Return for how many seconds a requested heartbeat has been missing; 0 if none was requested."""
        return now - self.heard_at if self.polled else 0.0


def kill_process(process: ProcessHeartbeat) -> None:
    """Kill a process at once, on whichever node it runs."""
    if process.node == ray.get_runtime_context().get_node_id():
        _kill(process.pid)
    elif not node_is_lost(process.node):
        on_node = NodeAffinitySchedulingStrategy(process.node, soft=False)
        with contextlib.suppress(RayError, GetTimeoutError):  # The node is lost, and the process with it.
            remote = ray.remote(_kill).options(num_cpus=0, max_retries=0, scheduling_strategy=on_node)
            ray.get(remote.remote(process.pid), timeout=KILL_TIMEOUT_S)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def node_is_lost(node: str) -> bool:
    """Return whether a node of the cluster is no longer reachable.

    Ray reports that only after half a minute without a sign of life; the port of a lost node refuses
    connections at once.
    """
    for known in ray.nodes():
        if known["NodeID"] == node and known["Alive"]:
            address = (known["NodeManagerAddress"], known["NodeManagerPort"])
            try:
                socket.create_connection(address, CONNECT_TIMEOUT_S).close()
            except OSError:
                return True
            return False
    return True


def first_line(error: BaseException) -> str:
    """Return the first line of an error message that is not blank."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
