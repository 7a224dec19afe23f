"""What a command costs with all processes that it starts, until something has happened."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

POLL_S = 0.05
READ_S = 0.25
"""Seconds between two readings of processor time and memory, each of which takes a millisecond per process."""
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class TreeCost:
    """Cost of a command and everything below it."""

    wall_s: float
    processor_s: float
    peak_mib: float
    """Largest sum of proportional set sizes, which counts shared memory once; of unique ones where Linux gives none."""


@dataclass(frozen=True)
class CommandCosts:
    """Costs of a command until an event, and until its end."""

    until_event: TreeCost
    """Until the end where nothing happened."""
    whole: TreeCost
    status: int
    """Exit status of the command."""


def cost_until(
    command: Sequence[str],
    happened: Callable[[], bool] = lambda: False,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> TreeCost:
    """Run a command in a folder to its end, and return what it cost until `happened`, or until its end."""
    return command_costs(command, happened, environment=environment, folder=folder).until_event


def command_costs(
    command: Sequence[str],
    happened: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    output: Path | None = None,
    limit_s: float = float("inf"),
) -> CommandCosts:
    """Run a command in a folder to its end.

    Processes whose parents end become children of this one, where the system can arrange that, and are counted as well.

    Args:
      happened: Whether the event has happened, asked 20 times a second.
      output: File for what the command prints; by default its errors go where those of this process go.
      limit_s: Seconds after which all its processes are killed.

    Raises:
      TimeoutError: If it took longer.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    tree = _Tree()
    with contextlib.ExitStack() as stack:
        printed = stack.enter_context(output.open("wb")) if output else subprocess.DEVNULL
        errors = printed if output else None
        began = time.monotonic()
        running = subprocess.Popen(command, stdout=printed, stderr=errors, env=environment, cwd=folder)
    event, read_at = None, 0.0
    while running.poll() is None:
        if event is None and happened():
            event = tree.cost(began)
        if time.monotonic() - began > limit_s:
            tree.kill()
            running.wait()
            raise TimeoutError(f"still running after {limit_s:.0f} s")
        if time.monotonic() - read_at >= READ_S:
            tree.cost(began)
            read_at = time.monotonic()
        time.sleep(POLL_S)
    whole = tree.cost(began)
    return CommandCosts(event or whole, whole, running.returncode)


class _Tree:
    """All processes that appear below this one after its construction."""

    def __init__(self) -> None:
        self._others = set(psutil.Process().children(recursive=True))
        self._ended_before_s = _ended_s()
        self._seen_s: dict[psutil.Process, float] = {}
        """Processor time of each process as last seen: some parents, such as Ray's, let the system forget it."""
        self._unseen_s = 0.0
        """Processor time of processes that ended before they were seen, which their parents report."""
        self._peak_mib = 0.0

    def _processes(self) -> list[psutil.Process]:
        return [one for one in psutil.Process().children(recursive=True) if one not in self._others]

    def cost(self, began: float) -> TreeCost:
        """Return the costs so far."""
        reported_s, memory = _ended_s() - self._ended_before_s, 0.0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._seen_s[process] = times.user + times.system
                reported_s += self._seen_s[process] + times.children_user + times.children_system
                sizes = process.memory_full_info()
                memory += getattr(sizes, "pss", sizes.uss)
        seen_s = sum(self._seen_s.values())
        self._unseen_s = max(self._unseen_s, reported_s - seen_s)
        self._peak_mib = max(self._peak_mib, memory / 2**20)
        return TreeCost(time.monotonic() - began, seen_s + self._unseen_s, self._peak_mib)

    def kill(self) -> None:
        """End all processes."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


def _ended_s() -> float:
    """Processor time of children that have ended, with what they report of theirs."""
    times = os.times()
    return times.children_user + times.children_system
