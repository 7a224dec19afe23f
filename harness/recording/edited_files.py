"""Find files of installed distributions that were edited after the installation."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import os
from collections.abc import Iterable
from pathlib import Path

SOURCES = (".py",)
"""Files that are always hashed, because they are small and decide most."""


def edited_files(packages: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the edited files of each distribution that has any, with the start of their SHA-256, or `missing`.

    Files are compared with the sizes and hashes that the installer recorded. All but sources, such as hundreds of MB of
    meshes and textures, are hashed only if their size differs or they were written after the installation. Files that
    were added are not found, nor are changes in distributions that are installed as links to a source tree.
    """
    found = {package: _edited(package) for package in dict.fromkeys(packages)}
    return {package: files for package, files in found.items() if files}


def _edited(package: str) -> dict[str, str]:
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return {}
    rows = list(csv.reader((distribution.read_text("RECORD") or "").splitlines()))
    root = str(distribution.locate_file(""))
    installed = max(
        (_modified(os.path.join(root, row[0])) for row in rows if row[0].endswith("/RECORD")), default=0.0
    )
    edited = {}
    for name, recorded, size in rows:
        if not recorded or ".dist-info/" in name or name.startswith(".."):
            continue
        now = _hash_if_edited(os.path.join(root, name), recorded, int(size or -1), installed)
        if now:
            edited[name] = now
    return edited


def _modified(path: str) -> float:
    return os.stat(path).st_mtime if os.path.exists(path) else 0.0


def _hash_if_edited(path: str, recorded: str, size: int, installed: float) -> str:
    """Return the start of a file's hash if it is not the recorded one, else an empty text."""
    try:
        status = os.stat(path)
    except OSError:
        return "missing"
    unchanged = status.st_size == size and status.st_mtime <= installed
    algorithm, _, digest = recorded.partition("=")
    if (unchanged and not path.endswith(SOURCES)) or algorithm != "sha256":
        return ""
    now = hashlib.sha256(Path(path).read_bytes()).digest()
    same = base64.urlsafe_b64encode(now).rstrip(b"=").decode() == digest
    return "" if same else now.hex()[:16]
