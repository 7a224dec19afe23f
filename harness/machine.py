"""Cores and memory that this process may use: those of the machine, limited by its control groups.

Containers and batch systems limit processes by control groups, of version 1, version 2 or both. A limit of a group
holds for all groups inside it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

ROOT = Path("/")
ACCELERATOR_BATCH_SIZE = 4
"""Default on GPUs and TPUs, where a call of four rows takes hardly longer than one of one."""
CPU_BATCH_SIZE = 1
"""Default without them: a row that no query asks for takes a core as long as one that does."""


@dataclass(frozen=True)
class Memory:
    """Memory of one machine or container."""

    total: int
    """Bytes that all processes together may use."""
    free: int
    """Bytes that processes can still allocate, caches that the kernel gives up included."""


def default_batch_size(*, cluster: bool = False) -> int:
    """Rows of a call of a policy unless the user sets them: one on a CPU, four on accelerators and in clusters."""
    return ACCELERATOR_BATCH_SIZE if cluster or has_accelerator() else CPU_BATCH_SIZE


def has_accelerator(root: Path = ROOT) -> bool:
    """Whether JAX may use a GPU or TPU of this machine, without importing it.

    Args:
      root: Folder that holds `dev`.
    """
    if platforms := os.environ.get("JAX_PLATFORMS", ""):
        return not platforms.startswith("cpu")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    devices = ["kfd", "accel[0-9]*", *([] if hidden else ["nvidia[0-9]*"])]
    return any(file for name in devices for file in (root / "dev").glob(name))


def memory(root: Path = ROOT) -> Memory:
    """Return the memory of the tightest limit on this process.

    Args:
      root: Folder that holds `proc` and `sys`.
    """
    host = psutil.virtual_memory()
    limits = [Memory(host.total, host.available)]
    for group in _groups(root):
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
        if limit is not None and used is not None and limit < host.total:
            limits.append(Memory(limit, max(0, limit - used + _reclaimable(group))))
    tightest = min(limits, key=lambda limit: limit.free)
    return Memory(min(limit.total for limit in limits), tightest.free)


def usable_cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may use, by its affinity and its control groups."""
    cores = len(os.sched_getaffinity(0))
    for group in _groups(root):
        quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        words = _read(group / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            quota, period = int(words[0]), int(words[1])
        if quota is not None and period:
            cores = min(cores, max(1, round(quota / period)))
    return cores


@functools.cache
def _groups(root: Path) -> tuple[Path, ...]:
    """Return the folders of the control groups of this process with limits, and of the groups around them."""
    limits = ("memory.max", "memory.limit_in_bytes", "cpu.max", "cpu.cfs_quota_us")
    return tuple(group for group in _all_groups(root) if any((group / name).exists() for name in limits))


def _all_groups(root: Path) -> Iterator[Path]:
    paths = {}  # Of this process's group in each hierarchy, by controller; version 2 is the hierarchy "".
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    for line in _read(root / "proc/self/mountinfo").splitlines():
        mount, _, source = line.partition(" - ")
        (kind, _, options), (mount_root, mounted) = source.split(" ", 2), mount.split(" ")[3:5]
        names = [""] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
        own = next((paths[name] for name in names if name in paths), None)
        if own is None:
            continue
        inner = PurePosixPath(own)
        # Inside a container, a mount may show a part of the hierarchy only, with this process's group at its top.
        inside = inner.is_relative_to(mount_root) and ".." not in inner.parts
        relative = inner.relative_to(mount_root) if inside else PurePosixPath(".")
        top = root / mounted.lstrip("/")
        yield from (top / level for level in (relative, *relative.parents))
    yield root / "sys/fs/cgroup"  # Sandboxes show limits there without saying so in their mounts.


def _reclaimable(group: Path) -> int:
    """Return the bytes of files in memory that were not read lately, which the kernel gives up first."""
    stat = dict(line.split(" ", 1) for line in _read(group / "memory.stat").splitlines() if " " in line)
    return int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def _number(file: Path) -> int | None:
    """Return the content of a file if it is a number that is not negative; -1 and `max` mean no limit."""
    text = _read(file).strip()
    return int(text) if text.isdigit() else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
