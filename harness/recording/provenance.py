"""Provenance of a run: software, machine, renderer and weights, written to `provenance.json`."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from simloop.envs import registry
from simloop.envs.rendering import GL_BACKEND
from simloop.harness.recording.edited_files import edited_files
from simloop.harness.recording.run_folder import RunFolderError, write_atomically
from simloop.results.records.compatibility import PACKAGES as DECIDING_PACKAGES
from simloop.results.records.compatibility import RunIdentity, refusal
from simloop.results.records.records import PROVENANCE, load_json

PACKAGES = (
    *DECIDING_PACKAGES, "gymnasium", "ray",
    *(package for suite in map(registry.suite, registry.suites()) for package in suite.packages),
)  # fmt: skip
SETTINGS = (
    "XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE",
    "JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64", "JAX_NUMPY_DTYPE_PROMOTION", "JAX_DEFAULT_PRNG_IMPL",
    "JAX_THREEFRY_PARTITIONABLE", "JAX_DISABLE_JIT",
)  # fmt: skip
"""Environment variables that change images or actions. Policies report the settings of their own process as well."""
EXECUTED = ("envs", "harness", "policies", "results")
"""Folders of the source tree whose files are executed."""


class Provenance:
    """Writer of `provenance.json`, which has one entry per start of the command.

    Args:
      suite: Suite of the run, whose packages decide its records.
      batch_sizes: Batch sizes that calls of a policy may have. With several, actions depend, by rounding, on which
        queries share a batch.

    Raises:
      RunFolderError: If an earlier start had other software or batch sizes.
    """

    def __init__(
        self,
        folder: Path,
        suite: str,
        plan_sha256: str,
        protocol_sha256: str,
        renderer: str,
        batch_sizes: Sequence[int] = (),
    ):
        self._file = folder / PROVENANCE
        commit, simulator = _commit(), registry.suite(suite)
        self._start: dict[str, Any] = {
            "started": _now(),
            "command": sys.argv,
            "commit": commit,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "host": {
                "cpus": psutil.cpu_count(),
                "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
                "platform": platform.platform(),
            },
            "packages": {name: _version(name) for name in PACKAGES} | simulator.versions(),
            "suite_packages": list(simulator.versions()),
            "edited": edited_files([*simulator.packages, *([] if commit else ["simloop"])]),
            "settings": {"MUJOCO_GL": str(GL_BACKEND)}
            | {name: os.environ[name] for name in SETTINGS if name in os.environ},
            "renderer": renderer,
            "buckets": list(batch_sizes),
        }
        if len(batch_sizes) > 1:
            self._start["note"] = (
                "--throughput: batch sizes followed the number of waiting queries. Another run of this plan gives "
                "other records, by rounding."
            )
        self._content: dict[str, Any] = {
            "plan_sha256": plan_sha256,
            "protocol_sha256": protocol_sha256,
            "policies": {},
            "compile_s": {},
            "starts": [],
        }
        if self._file.exists():
            self._content |= load_json(folder, PROVENANCE)
        self._earlier = dict(self._content["policies"])
        self._refuse(RunIdentity(starts=self._content["starts"]), RunIdentity(starts=[self._start]))
        self._content["starts"].append(self._start)
        self._write()

    def _refuse(self, earlier: RunIdentity, now: RunIdentity) -> None:
        if found := refusal(earlier, now, "resume"):
            raise RunFolderError(
                f"{self._file.parent} cannot be resumed here: {found}. Resume it with what it was started with, or use "
                "another --out folder."
            )

    def add_policy(
        self,
        name: str,
        *,
        device: str,
        fingerprint: Mapping[str, str],
        load_s: float = 0.0,
        compile_s: float = 0.0,
        batch_sizes: Sequence[int] = (),
        kernels: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Record a loaded policy.

        Args:
          fingerprint: Hashes of weights and statistics.
          load_s: Seconds to load the weights.
          compile_s: Seconds to compile and warm up.
          batch_sizes: Batch sizes that its calls have.
          kernels: Implementation by operation; None for a policy without kernels.
          settings: Settings of libraries in the policy's process that change its answers.

        Raises:
          RunFolderError: If weights, statistics, device, kernels or settings differ from those of an earlier start, or
            weights or statistics from those of another worker.
        """
        policy: dict[str, Any] = {
            "device": device,
            "fingerprint": dict(fingerprint),
            "load_s": round(load_s, 3),
            "buckets": list(batch_sizes),
            "settings": dict(settings or {}),
        }
        if kernels is not None:
            policy["kernels"] = dict(kernels)
        if name in self._earlier:
            self._refuse(
                RunIdentity(policies={name: self._earlier[name]}), RunIdentity(policies={name: policy})
            )
        elif name in self._content["policies"]:
            of_other = {"fingerprint": self._content["policies"][name]["fingerprint"]}
            of_this = {"fingerprint": policy["fingerprint"]}
            self._refuse(RunIdentity(policies={name: of_other}), RunIdentity(policies={name: of_this}))
        self._content["policies"][name] = policy
        self._content["compile_s"].setdefault(name, round(compile_s, 3))
        self._write()

    def require_source(self, name: str, hashes: Mapping[str, str]) -> None:
        """Refuse a policy whose source files, or other parts known before it is loaded, have changed.

        Raises:
          RunFolderError: If an earlier start recorded others.
        """
        if name in self._earlier:
            known = self._earlier[name].get("fingerprint", {})
            earlier = {"fingerprint": {part: known.get(part) for part in hashes}}
            self._refuse(
                RunIdentity(policies={name: earlier}),
                RunIdentity(policies={name: {"fingerprint": dict(hashes)}}),
            )

    def finish(self, outcome: str) -> None:
        """Record how this start ended, if the disk can take it."""
        self._start["ended"] = _now()
        self._start["outcome"] = outcome
        with contextlib.suppress(OSError):
            self._write()

    def _write(self) -> None:
        write_atomically(self._file, json.dumps(self._content, indent=2) + "\n")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """Return the commit of the source tree; None for an installed package.

    Edits of executed files add `+changes` and a hash of them, so that two different edits differ.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
        changes = hashlib.sha256(_git(root, "diff", "HEAD", "--binary", "--", *EXECUTED))
        added = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *EXECUTED).split(b"\0")[
            :-1
        ]
        for name in added:
            changes.update(name + b"\0" + (root / os.fsdecode(name)).read_bytes())
    except (OSError, subprocess.CalledProcessError):
        return None
    unchanged = changes.digest() == hashlib.sha256().digest()
    return commit if unchanged else f"{commit}+changes.{changes.hexdigest()[:12]}"


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True).stdout
