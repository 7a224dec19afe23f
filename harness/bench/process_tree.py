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
MEMORY_S = 0.5
"""Seconds between two readings of memory, each of which takes a millisecond per process."""
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class TreeCost:
    """Cost of a command and everything below it."""

    wall_s: float
    processor_s: float
    peak_mib: float
    """Largest sum of proportional set sizes, which counts shared memory once; of unique ones where Linux gives none."""


def cost_until(
    command: Sequence[str],
    happened: Callable[[], bool] = lambda: False,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> TreeCost:
    """Run a command in a folder to its end, and return what it cost until `happened`, or until its end.

    Processes whose parents end become children of this one, where the system can arrange that, and are counted as well.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    others = {process.pid for process in _descendants()}
    spent_before, began = _spent_s(), time.monotonic()
    command_process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, cwd=folder)
    peak, read_at = 0.0, 0.0
    while command_process.poll() is None and not happened():
        if time.monotonic() - read_at >= MEMORY_S:
            peak, read_at = max(peak, _memory_mib(others)), time.monotonic()
        time.sleep(POLL_S)
    wall_s = time.monotonic() - began
    processor_s = _spent_s() - spent_before
    peak = max(peak, _memory_mib(others))
    command_process.wait()
    return TreeCost(wall_s, processor_s, peak)


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _spent_s() -> float:
    """Processor time of all processes below this one, those included that have ended."""
    ended = os.times()
    return ended.children_user + ended.children_system + sum(map(_processor_s, _descendants()))


def _processor_s(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def _memory_mib(others: set[int]) -> float:
    """Memory of the processes below this one, without those that do not belong to the command."""
    total = 0.0
    for process in _descendants():
        if process.pid in others:
            continue
        with contextlib.suppress(psutil.Error):
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.uss)
    return total / 2**20
