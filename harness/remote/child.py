"""A policy server in another Python environment, started and ended by simloop.

The folder of the server holds a manifest, `simloop-policy.toml`:

    command = ["server.py", "--port", "{port}"]  # Arguments of the interpreter, run in this folder.
    protocol = "openpi"                          # or "vla-eval"
    robot = "libero"                             # Which observations it takes.
    start_s = 300                                # Optional: seconds until it listens.

The server listens on 127.0.0.1 at the port that replaces `{port}`, which the environment variable `PORT` holds as well.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simloop.envs.served.process import ChildProcess
from simloop.harness.errors import SimloopError, SpecificationError
from simloop.harness.remote.connection import ConnectionLost, ServerError
from simloop.harness.remote.policy import Deadlines, RemotePolicy
from simloop.harness.remote.protocols import PROTOCOLS
from simloop.harness.remote.robots import robot_of
from simloop.policies.interface import CompilationProgress
from simloop.untrusted import read_toml

MANIFEST = "simloop-policy.toml"


class ManifestError(SimloopError):
    """A folder without a manifest, or with one that cannot be used."""


@dataclass(frozen=True)
class Manifest:
    """How to start a policy server, and what it speaks."""

    folder: Path
    command: tuple[str, ...]
    """Arguments of the interpreter; `{port}` stands for the port."""
    protocol: str
    robot: str
    start_s: float = 300.0
    """Seconds until it must listen."""


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises:
      ManifestError: If there is none, or an entry is missing, unknown or of another type.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ManifestError(
            f"{folder} has no {MANIFEST}, which says how to start its server. See docs/serving.md."
        )
    found = read_toml(path, error=ManifestError)
    if unknown := found.keys() - {"command", "protocol", "robot", "start_s"}:
        raise ManifestError(
            f"{path} has command, protocol, robot and start_s; got {', '.join(sorted(unknown))}."
        )
    command, start_s = found.get("command"), found.get("start_s", Manifest.start_s)
    if not isinstance(command, list) or not command or not all(isinstance(part, str) for part in command):
        raise ManifestError(
            f'{path}: command must be a list of text, such as ["server.py", "--port", "{{port}}"].'
        )
    if isinstance(start_s, bool) or not isinstance(start_s, int | float) or not 0 < start_s < float("inf"):
        raise ManifestError(f"{path}: start_s must be a number of seconds above 0; got {start_s!r}.")
    return Manifest(
        folder,
        tuple(command),
        _one_of(found, "protocol", tuple(PROTOCOLS), path),
        _robot(found, folder),
        float(start_s),
    )


def _robot(found: dict[str, Any], folder: Path) -> str:
    robot = str(found.get("robot", ""))
    try:
        robot_of(robot, folder)
    except SpecificationError as error:
        raise ManifestError(f"{folder / MANIFEST}: {error}") from error
    return robot


def _one_of(found: dict[str, Any], key: str, known: tuple[str, ...], path: Path) -> str:
    value = found.get(key)
    if value not in known:
        raise ManifestError(f"{path}: {key} must be one of {', '.join(known)}; got {value!r}.")
    return str(value)


class ChildServer(ChildProcess):
    """A running policy server."""

    def __init__(self, manifest: Manifest, interpreter: tuple[str, ...]):
        """Start the server.

        Args:
          interpreter: Command of the Python interpreter.

        Raises:
          InterpreterError: If the interpreter cannot be started.
        """
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        arguments = (part.replace("{port}", str(port)) for part in manifest.command)
        variables = {"PORT": str(port)}
        super().__init__([*interpreter, *arguments], manifest.folder, name="server", variables=variables)


class ChildPolicy(RemotePolicy):
    """A policy whose server this process starts and ends."""

    def __init__(self, manifest: Manifest, interpreter: tuple[str, ...], connections: int | None = None):
        self._child = ChildServer(manifest, interpreter)
        robot = robot_of(manifest.robot, manifest.folder)
        super().__init__(
            robot.spec(manifest.folder.name),
            self._child.address,
            PROTOCOLS[manifest.protocol](robot),
            connections=connections,
            deadlines=Deadlines(start_s=manifest.start_s),
            ended=self._child.ended,
        )

    def prepare(
        self, batch_size: int, on_progress: Callable[[CompilationProgress], None] | None = None
    ) -> float:
        """Wait for the server as `RemotePolicy.prepare`; errors show its last output."""
        try:
            return super().prepare(batch_size, on_progress)
        except (ConnectionLost, ServerError) as error:
            self.close()
            raise type(error)(f"{error}\n{self._child.report()}") from error

    def close(self) -> None:
        """End the connections and the server."""
        super().close()
        self._child.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
