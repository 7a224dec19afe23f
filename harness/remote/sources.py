"""Specifications of policies that other programs serve: `openpi://`, `vla-eval://`, `uv:` and `process:`."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from simloop.harness.errors import SpecificationError
from simloop.harness.planning.policy_sources import PolicySource, Scheme, Specification, named_interpreter
from simloop.harness.remote.child import MANIFEST, ChildPolicy, Manifest, read_manifest
from simloop.harness.remote.policy import Deadlines, RemotePolicy
from simloop.harness.remote.protocols import PROTOCOLS
from simloop.harness.remote.robots import ServedRobot, robot_of
from simloop.policies.interface import BatchedPolicy, GuidanceMethod, PolicySpec
from simloop.untrusted import file_sha256

MAX_CONNECTIONS = 256


@dataclass(frozen=True)
class ServedPolicy(PolicySource):
    """A policy behind a server that is started by other means."""

    protocol: str
    address: str
    robot: ServedRobot
    connections: int | None = None
    deadlines: Deadlines = Deadlines()  # noqa: RUF009 (frozen)
    guidance: tuple[GuidanceMethod, ...] = ()

    def spec(self) -> PolicySpec:
        """Interface of a policy of the robot; the server is not asked."""
        spec = self.robot.spec(f"{self.protocol}://{self.address}")
        return dataclasses.replace(spec, guidance=self.guidance)

    def load(self) -> BatchedPolicy:
        """Return the client, which connects when it is prepared."""
        return RemotePolicy(
            self.spec(),
            self.address,
            PROTOCOLS[self.protocol](self.robot),
            connections=self.connections,
            deadlines=self.deadlines,
        )


@dataclass(frozen=True)
class StartedPolicy(PolicySource):
    """A policy behind a server that the process of its worker starts."""

    manifest: Manifest
    interpreter: tuple[str, ...]
    connections: int | None = None

    def spec(self) -> PolicySpec:
        """Interface of a policy of the robot that the manifest names."""
        return robot_of(self.manifest.robot, self.manifest.folder).spec(self.manifest.folder.name)

    def load(self) -> BatchedPolicy:
        """Start the server."""
        return ChildPolicy(self.manifest, self.interpreter, self.connections)

    def fingerprint(self) -> dict[str, str]:
        """Hashes of the manifest and of the files in its folder that its command names."""
        named = [part for part in self.manifest.command if (self.manifest.folder / part).is_file()]
        return {name: file_sha256(self.manifest.folder / name) for name in (MANIFEST, *named)}


def _served(specification: Specification) -> PolicySource:
    guided = ["guidance"] if specification.scheme == "openpi" else []
    _refuse_others(specification, ("robot", "connections", "start", "first", "timeout", *guided))
    host, colon, port = specification.target.rstrip("/").rpartition(":")
    if not (colon and host and port.isdecimal() and port.isascii() and 0 < int(port) < 2**16):
        raise SpecificationError(
            f"A policy server is named {specification.scheme}://HOST:PORT?robot=ROBOT; got {specification.text!r}."
        )
    default = Deadlines()
    deadlines = Deadlines(
        _seconds(specification, "start", default.start_s),
        _seconds(specification, "first", default.first_s),
        _seconds(specification, "timeout", default.answer_s),
    )
    return ServedPolicy(
        specification.scheme,
        f"{host}:{port}",
        robot_of(specification.arguments.get("robot", "")),
        _connections(specification),
        deadlines,
        _guidance(specification),
    )


def _started(specification: Specification) -> PolicySource:
    _refuse_others(specification, ("connections", *(["python"] if specification.scheme == "process" else [])))
    folder = Path(specification.target).expanduser().resolve()
    manifest = read_manifest(folder)
    if specification.scheme == "uv":
        uv = shutil.which("uv")
        if uv is None:
            raise SpecificationError(
                f"{specification.text!r} needs uv, which is not on PATH. Install uv, or use process:."
            )
        interpreter: tuple[str, ...] = (uv, "run", "--project", str(folder), "python")
    else:
        interpreter = (named_interpreter(specification, folder),)
    return StartedPolicy(manifest, interpreter, _connections(specification))


def _refuse_others(specification: Specification, known: Collection[str]) -> None:
    if unknown := specification.arguments.keys() - set(known):
        raise SpecificationError(
            f"{specification.scheme}: takes the arguments {', '.join(known)}; got {', '.join(sorted(unknown))} in "
            f"{specification.text!r}."
        )


def _connections(specification: Specification) -> int | None:
    text = specification.arguments.get("connections")
    if text is None:
        return None
    if not (text.isdecimal() and text.isascii() and 1 <= int(text) <= MAX_CONNECTIONS):
        raise SpecificationError(f"connections= takes a number from 1 to {MAX_CONNECTIONS}; got {text!r}.")
    return int(text)


def _guidance(specification: Specification) -> tuple[GuidanceMethod, ...]:
    text = specification.arguments.get("guidance")
    if text is None:
        return ()
    known = {method: method for method in get_args(GuidanceMethod)}
    if unknown := [method for method in text.split(",") if method not in known]:
        raise SpecificationError(
            f"guidance= takes {', '.join(known)}, separated by commas; got {unknown[0]!r}."
        )
    return tuple(known[method] for method in text.split(","))


def _seconds(specification: Specification, key: str, default: float) -> float:
    text = specification.arguments.get(key)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SpecificationError(f"{key}= takes seconds above 0; got {text!r}.")
    return value


OPENPI = Scheme("openpi", _served)
VLA_EVAL = Scheme("vla-eval", _served)
UV = Scheme("uv", _started)
PROCESS = Scheme("process", _started)
