"""Limits of containers, read from recorded trees of control groups."""

import os
from pathlib import Path

import psutil
import pytest

from simloop.harness import machine

GIB = 2**30
HOST = (512 * GIB, 400 * GIB)
V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate"


def v1_mount(controller: str, root: str = "/") -> str:
    return f"35 31 0:32 {root} /sys/fs/cgroup/{controller} rw,relatime - cgroup cgroup rw,{controller}"


@pytest.fixture(autouse=True)
def large_host(monkeypatch):
    """A host with 64 cores and 400 of 512 GiB free."""
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(total=HOST[0], available=HOST[1]))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))


def tree(root: Path, cgroup: str, mounts: list[str], **files: str) -> Path:
    files = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": "\n".join(mounts), **files}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root


def limits(
    folder: str, limit: int | str, used: int, inactive: int = 0, *, v1: bool = False
) -> dict[str, str]:
    names = (
        ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")
        if v1
        else ("max", "current", "inactive_file")
    )
    return {
        f"sys/fs/cgroup/{folder}memory.{names[0]}": str(limit),
        f"sys/fs/cgroup/{folder}memory.{names[1]}": str(used),
        f"sys/fs/cgroup/{folder}memory.stat": f"anon 1\n{names[2]} {inactive}",
    }


def test_a_machine_without_control_groups_has_all_its_memory_and_cores(tmp_path):
    assert machine.memory(tmp_path) == machine.Memory(*HOST)
    assert machine.usable_cores(tmp_path) == 64


def test_a_container_of_version_2_is_limited_by_its_group(tmp_path):
    files = limits("", 32 * GIB, 16 * GIB) | {"sys/fs/cgroup/cpu.max": "400000 100000"}
    root = tree(tmp_path, "0::/", [V2_MOUNT.format(root="/")], **files)
    assert machine.memory(root) == machine.Memory(32 * GIB, 16 * GIB)
    assert machine.usable_cores(root) == 4


def test_limits_hold_that_no_mount_announces(tmp_path):
    files = limits("", 32 * GIB, 16 * GIB) | {"sys/fs/cgroup/cpu.max": "400000 100000"}
    root = tree(tmp_path, "0::/", ["30 23 0:26 / / rw - ext4 /dev/sda rw"], **files)
    assert machine.memory(root) == machine.Memory(32 * GIB, 16 * GIB)
    assert machine.usable_cores(root) == 4


def test_caches_that_the_kernel_gives_up_are_free(tmp_path):
    root = tree(tmp_path, "0::/", [V2_MOUNT.format(root="/")], **limits("", 32 * GIB, 30 * GIB, 20 * GIB))
    assert machine.memory(root) == machine.Memory(32 * GIB, 22 * GIB)


def test_the_limit_of_an_outer_group_of_version_2_holds_for_inner_ones(tmp_path):
    files = limits("job/step/", "max", GIB) | limits("job/", 24 * GIB, 4 * GIB)
    files |= {"sys/fs/cgroup/job/step/cpu.max": "max 100000", "sys/fs/cgroup/job/cpu.max": "250000 100000"}
    root = tree(tmp_path, "0::/job/step", [V2_MOUNT.format(root="/")], **files)
    assert machine.memory(root) == machine.Memory(24 * GIB, 20 * GIB)
    assert machine.usable_cores(root) == 2


def test_the_total_and_the_free_memory_may_be_limited_by_different_groups(tmp_path):
    files = limits("job/step/", 8 * GIB, GIB) | limits("job/", 24 * GIB, 22 * GIB)
    root = tree(tmp_path, "0::/job/step", [V2_MOUNT.format(root="/")], **files)
    assert machine.memory(root) == machine.Memory(8 * GIB, 2 * GIB)


@pytest.mark.parametrize(
    ("cgroup", "mount_root", "folder"),
    [
        ("4:memory:/batch/7\n1:cpu:/batch/7", "/", "/batch/7"),
        ("4:memory:/docker/ab\n1:cpu:/docker/ab", "/docker/ab", ""),  # Of a container, seen from inside.
        ("4:memory:/../..\n1:cpu:/../..", "/", ""),  # Of another name space.
    ],
)
def test_a_container_of_version_1_is_limited_by_its_groups(tmp_path, cgroup, mount_root, folder):
    files = limits(f"memory{folder}/", 16 * GIB, 10 * GIB, 3 * GIB, v1=True)
    files[f"sys/fs/cgroup/cpu{folder}/cpu.cfs_quota_us"] = "300000"
    files[f"sys/fs/cgroup/cpu{folder}/cpu.cfs_period_us"] = "100000"
    mounts = [v1_mount("memory", mount_root), v1_mount("cpu", mount_root)]
    root = tree(tmp_path, cgroup, mounts, **files)
    assert machine.memory(root) == machine.Memory(16 * GIB, 9 * GIB)
    assert machine.usable_cores(root) == 3


def test_groups_of_version_1_without_limits_change_nothing(tmp_path):
    files = limits("memory/", 2**63 - 4096, 100 * GIB, v1=True) | {
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    }
    mounts = [v1_mount("memory"), v1_mount("cpu"), V2_MOUNT.format(root="/")]
    root = tree(tmp_path, "4:memory:/\n1:cpu:/\n0::/", mounts, **files)
    assert machine.memory(root) == machine.Memory(*HOST)
    assert machine.usable_cores(root) == 64


def test_reads_the_limits_of_this_machine():
    found = machine.memory()
    assert 0 <= found.free <= found.total <= HOST[0]
    assert machine.usable_cores() >= 1


def test_a_cpu_computes_the_rows_that_are_asked_for_and_an_accelerator_four(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "dev").mkdir()
    assert not machine.has_accelerator(tmp_path)
    (tmp_path / "dev" / "nvidia0").touch()
    assert machine.has_accelerator(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not machine.has_accelerator(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert machine.default_batch_size() == 1
    assert machine.default_batch_size(cluster=True) == 4
