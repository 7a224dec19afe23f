"""Environments of the tools, made from locked versions in a folder of each."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from simloop.harness.bench.peers.catalogue import Peer
from simloop.harness.errors import SimloopError

INSTALLED = "installed-from"
"""File in an environment with the hash of the lock that was installed."""
LIMIT_S = 1800.0


class InstallationError(SimloopError):
    """A tool cannot be installed here."""


def python_of(peer: Peer, folder: Path) -> Path:
    """Return the interpreter of a tool in `folder`, after the locked packages are installed.

    Raises:
      InstallationError: Without an interpreter of its version, or if the installation fails.
    """
    environment = folder.absolute() / peer.name
    python, installed = environment / "bin" / "python", environment / INSTALLED
    wanted = hashlib.sha256(peer.lock.read_bytes()).hexdigest()
    if installed.is_file() and installed.read_text() == wanted:
        return python
    if environment.exists() and not (environment / "pyvenv.cfg").is_file():
        raise InstallationError(f"{environment} is no virtual environment. Choose another folder.")
    base = _interpreter(peer.python)
    folder.mkdir(parents=True, exist_ok=True)
    _run([base, "-m", "venv", "--clear", str(environment)], folder)
    uv = _uv()
    install = [uv, "pip", "install", "--python"] if uv else []
    install += [str(python)] if uv else [str(python), "-m", "pip", "install"]
    _run([*install, "--quiet", "--require-hashes", "--requirement", str(peer.lock)], environment)
    installed.write_text(wanted)
    return python


def _uv() -> str | None:
    """The uv of the system, or the one that `scripts/setup` installs into the current folder."""
    return shutil.which("uv") or shutil.which(Path.cwd() / ".venv-uv" / "bin" / "uv")


def _interpreter(version: str) -> str:
    for python in _interpreters(version):
        if _version(python) == version:
            return python
    raise InstallationError(
        f"needs Python {version}, which was found neither in PATH nor among those of pyenv and uv"
    )


def _interpreters(version: str) -> Iterator[str]:
    yield sys.executable
    yield from filter(None, [shutil.which(f"python{version}")])
    yield from map(str, sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")))
    data = Path.home() / ".local" / "share" / "uv" / "python"
    yield from map(str, sorted(data.glob(f"cpython-{version}.*/bin/python{version}")))


def _version(python: str) -> str:
    """Return the version of an interpreter as 3.11; empty if it does not run."""
    asked = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _run(command: Sequence[str], folder: Path) -> None:
    """Run a command in a folder, away from settings of uv in the current one, which would change versions."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, cwd=folder)
    except subprocess.TimeoutExpired:
        raise InstallationError(f"'{' '.join(command)}' did not end within {LIMIT_S:.0f} s") from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise InstallationError(f"'{' '.join(command)}' failed: {' '.join(lines[-3:])}")
