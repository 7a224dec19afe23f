"""Compiled models on disk: the second start of a task loads its model instead of compiling it.

A model is a file in `models` of the cache folder, named after a hash of everything that it depends on and a checksum
of its content. Deleting files is safe at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
import shutil
import tempfile
import zlib
from pathlib import Path

import mujoco

from simloop.cache_folder import simloop_home

FREE_FACTOR = 50
"""Models are stored while the disk has this many times their size to spare: LIBERO has 32 of up to 250 MB."""


def compiled_model(xml: str, packages: str) -> mujoco.MjModel:
    """Return the compiled model of an MJCF document, from the cache if it is there and intact.

    Args:
      xml: The document, with absolute paths of its assets.
      packages: Packages and versions that the document and its assets come from.
    """
    folder, key = simloop_home() / "models", _key(xml, packages)
    if (stored := _load(folder, key)) is not None:
        return stored
    model = _compile(xml)
    with contextlib.suppress(OSError):  # A full or read-only disk: the model is compiled again next time.
        _store(model, folder, key)
    return model


def _compile(xml: str) -> mujoco.MjModel:
    model = mujoco.MjModel.from_xml_string(xml)
    mujoco.MjModel.from_xml_string(
        "<mujoco/>"
    )  # MuJoCo keeps the sources of the model that it compiled last.
    return model


def _load(folder: Path, key: str) -> mujoco.MjModel | None:
    """Load a stored model; files that are damaged are deleted."""
    for file in folder.glob(f"{key}-*.mjb"):
        with contextlib.suppress(OSError, ValueError):  # Deleted by another process; refused by MuJoCo.
            if file.stem == f"{key}-{_checksum(file)}":
                return mujoco.MjModel.from_binary_path(str(file))
        file.unlink(missing_ok=True)
    return None


def _key(xml: str, packages: str) -> str:
    assets = sorted(set(re.findall(r'file="([^"]+)"', xml)))
    stats = [(asset, os.stat(asset)) for asset in assets]
    parts = [xml, packages, mujoco.__version__, *(f"{a} {s.st_size} {s.st_mtime_ns}" for a, s in stats)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _store(model: mujoco.MjModel, folder: Path, key: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < FREE_FACTOR * mujoco.mj_sizeModel(model):
        return
    handle, name = tempfile.mkstemp(suffix=".part", dir=folder)
    os.close(handle)
    try:
        mujoco.mj_saveModel(model, name, None)
        os.replace(name, folder / f"{key}-{_checksum(Path(name))}.mjb")
    finally:
        Path(name).unlink(missing_ok=True)


def _checksum(file: Path) -> str:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return f"{zlib.crc32(content):08x}"
