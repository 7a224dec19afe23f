"""Where a result comes from: software, machine, renderer, weights."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from simloop.envs import registry
from simloop.harness.recording.run_folder import RunFolderError, write_atomically
from simloop.policies.models.kernels import Kernels
from simloop.results.records.records import DECIDING_SOFTWARE, PROVENANCE, look_up

PACKAGES = (
    "simloop", "mujoco", *(package for suite in map(registry.suite, registry.suites()) for package in suite.packages),
    "gymnasium", "jax", "jaxlib", "flax", "numpy", "ray", "tokamax",
)  # fmt: skip


class Provenance:
    """The file `provenance.json` of a run; one entry per start of the command."""

    def __init__(
        self,
        folder: Path,
        plan_sha256: str,
        protocol_sha256: str,
        renderer: str,
        batch_sizes: Sequence[int] = (),
    ):
        """`batch_sizes` are the rows that calls of policies may have; more than one makes answers depend on
        their company, by rounding."""
        self._file = folder / PROVENANCE
        self._start: dict[str, Any] = {
            "started": _now(),
            "command": sys.argv,
            "commit": _commit(),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "host": {
                "cpus": psutil.cpu_count(),
                "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
                "platform": platform.platform(),
            },
            "packages": {name: _version(name) for name in PACKAGES},
            "renderer": renderer,
            "buckets": list(batch_sizes),
        }
        if len(batch_sizes) > 1:
            self._start["note"] = (
                "--throughput: rows of a call followed what was waiting. Another run of this plan gives other "
                "records, by rounding."
            )
        self._content: dict[str, Any] = {
            "plan_sha256": plan_sha256,
            "protocol_sha256": protocol_sha256,
            "policies": {},
            "compile_s": {},
            "starts": [],
        }
        if self._file.exists():
            self._content = json.loads(self._file.read_text())
            self._refuse_other_software()
        policies = self._content["policies"]
        self._devices_before = {name: known["device"] for name, known in policies.items()}
        # Where nothing is written of them, there were no others yet.
        self._kernels_before: dict[str, dict[str, str]] = {
            name: known.get("kernels", Kernels().names()) for name, known in policies.items()
        }
        self._content["starts"].append(self._start)
        self._write()

    def _refuse_other_software(self) -> None:
        for earlier in self._content["starts"]:
            differing = [
                f"{key}: {look_up(earlier, key)} -> {look_up(self._start, key)}"
                for key in DECIDING_SOFTWARE
                if look_up(earlier, key) != look_up(self._start, key)
            ]
            if differing:
                raise RunFolderError(
                    f"{self._file.parent} was started with other software, so its episodes would not be alike: "
                    f"{'; '.join(differing)}. Finish it where it was started, or use another --out folder."
                )
            if earlier.get("buckets", [0])[1:] != self._start["buckets"][1:]:
                raise RunFolderError(
                    f"{self._file.parent} was started {'with' if earlier.get('note') else 'without'} --throughput, "
                    "so its episodes would not be alike. Go on as it was started, or use another --out folder."
                )

    def add_policy(
        self,
        name: str,
        device: str,
        fingerprint: dict[str, str],
        load_s: float,
        compile_s: float,
        batch_sizes: Sequence[int] = (),
        kernels: Kernels | None = None,
    ) -> None:
        """Note a policy's hashes; refuse weights, devices and kernels that differ from those the run was started with.

        `batch_sizes` are the rows that its calls have, of those that calls may have.
        """
        known = self._content["policies"].get(name)
        if known and known["fingerprint"] != fingerprint:
            raise RunFolderError(
                f"Policy {name!r} has other weights or statistics than when {self._file.parent} was started: "
                f"{known['fingerprint']} -> {fingerprint}. Use another --out folder."
            )
        before = self._devices_before.get(name, device)
        if before != device:
            raise RunFolderError(
                f"Policy {name!r} answered on {before} when {self._file.parent} was started and would now on "
                f"{device}, whose answers differ by rounding. Go on where it was started, or use another --out folder."
            )
        said = None if kernels is None else kernels.names()
        if said is not None and self._kernels_before.get(name, said) != said:
            raise RunFolderError(
                f"Policy {name!r} answered by the kernels {self._kernels_before[name]} when {self._file.parent} was "
                f"started and would now by {said}, whose answers differ by rounding. Use the same --kernels, or "
                "another --out folder."
            )
        self._content["policies"][name] = {
            "device": device,
            "fingerprint": fingerprint,
            "load_s": round(load_s, 3),
            "buckets": list(batch_sizes),
        }
        if kernels is not None:
            self._content["policies"][name]["kernels"] = said
        self._content["compile_s"].setdefault(name, round(compile_s, 3))
        self._write()

    def finish(self, outcome: str) -> None:
        """Note how this start ended."""
        self._start["ended"] = _now()
        self._start["outcome"] = outcome
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
    """Commit of the source tree, with `+changes` where it has been edited; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes else "")
