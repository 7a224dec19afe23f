"""Suites that run in an interpreter of their own."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from simloop.envs.interface import NOT_INSTALLED, Env, RenderSettings, Suite, SuiteNotInstalledError, TaskSpec
from simloop.envs.served.assets import Assets, missing
from simloop.envs.served.connection import START_S, Connection, Program, ServedSuiteLost
from simloop.envs.served.environment import PROCESSES, ServedEnv

SOURCE_TREE = Path(__file__).resolve().parents[2]
VERSIONS = (
    "import importlib.metadata as m, json, sys; print(json.dumps([m.version(name) for name in sys.argv[1:]]))"
)


class DescriptionError(ValueError):
    """Tasks of a served suite that are not complete."""

    user_facing = True


def task_specs(suite: str, tasks: Mapping[str, Mapping[str, Any]]) -> tuple[TaskSpec, ...]:
    """Return the specs of the table `TASKS` of a suite's file.

    Raises:
      DescriptionError: If an entry lacks a value, or has one that no task has.
    """
    fields = [field for field in dataclasses.fields(TaskSpec) if field.name not in ("suite", "name")]
    needed = [field.name for field in fields if field.default is dataclasses.MISSING]
    allowed = [field.name for field in fields if field.name not in needed]
    specs = []
    for name, values in tasks.items():
        if wrong := sorted((set(needed) - values.keys()) | (values.keys() - {*needed, *allowed})):
            raise DescriptionError(
                f"TASKS of suite {suite!r} must give {', '.join(needed)} for {name!r}, and may give "
                f"{', '.join(allowed)}; correct {', '.join(wrong)}."
            )
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        specs.append(TaskSpec(suite, name, **given))
    return tuple(specs)


class DescribedSuite(Suite):
    """The suite of a file that its own interpreter describes."""

    def __init__(self, program: Program, identity: str) -> None:
        """Start the interpreter once to learn the tasks.

        Args:
          identity: Name and hash of the file.

        Raises:
          InterpreterError, ServedSuiteError, ServedSuiteLost: If it does not tell them.
          DescriptionError: If they are not complete.
        """
        found = _described(program)
        self.name = found["name"]
        self._program = program
        self._identity, self._versions = identity, dict(found["versions"])
        self._tasks = task_specs(self.name, found["tasks"])
        self._groups = {name: tuple(members) for name, members in found["groups"].items()}
        self.default_group = next(iter(self._groups))

    @property
    def source(self) -> str:
        return ", ".join(filter(None, (self._identity, super().source)))

    def versions(self) -> dict[str, str]:
        return dict(self._versions)

    def tasks(self) -> Sequence[TaskSpec]:
        return self._tasks

    def groups(self) -> dict[str, tuple[str, ...]]:
        return dict(self._groups)

    def make(self, task: str, render: RenderSettings) -> Env:
        """Start a process that simulates the task."""
        spec = {spec.name: spec for spec in self._tasks}[task]
        return ServedEnv(spec, self._program, render, self.source)


class ServedSuite(Suite):
    """A suite of simloop in the environment that `scripts/setup NAME` makes.

    Subclasses name the file, which both interpreters import: this one for its tables, the other to simulate.
    """

    file: ClassVar[str]
    """Path of the suite's file."""
    table: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Its `TASKS`."""
    needed: ClassVar[tuple[str, ...]]
    """Distributions that the interpreter of the suite needs."""
    environment: ClassVar[str] = ""
    """Suite whose interpreter this one shares; empty for its own."""

    @property
    def interpreter(self) -> str:
        """Interpreter of the suite: the environment variable `SIMLOOP_<NAME>_PYTHON`, else that of the source tree."""
        name = self.environment or self.name
        own = SOURCE_TREE / f".venv-{name}" / "bin" / "python"
        return os.environ.get(f"SIMLOOP_{name.upper()}_PYTHON", str(own))

    def versions(self) -> dict[str, str]:
        return dict(zip(self.needed, _versions(self.interpreter, self.needed), strict=True))

    def is_installed(self) -> bool:
        return NOT_INSTALLED not in self.versions().values() and not self._missing_assets()

    def require_installed(self) -> None:
        name = self.environment or self.name
        if NOT_INSTALLED in self.versions().values():
            raise SuiteNotInstalledError(
                f"Suite {self.name!r} runs in an interpreter of its own, which needs {', '.join(self.needed)}; "
                f"{self.interpreter} does not have them. Run scripts/setup {name} in the source tree, or name "
                f"another interpreter in SIMLOOP_{name.upper()}_PYTHON."
            )
        if sentence := self._missing_assets():
            raise SuiteNotInstalledError(sentence)

    def assets(self) -> Sequence[Assets]:
        """What the suite needs beside its packages."""
        return ()

    def _missing_assets(self) -> str:
        return missing(self.assets(), self.name, self.interpreter)

    @functools.cached_property
    def _tasks(self) -> dict[str, TaskSpec]:
        return {spec.name: spec for spec in task_specs(self.name, self.table)}

    def tasks(self) -> Sequence[TaskSpec]:
        return tuple(self._tasks.values())

    def make(self, task: str, render: RenderSettings) -> Env:
        self.require_installed()
        return ServedEnv(self._tasks[task], Program(self.interpreter, Path(self.file)), render, self.source)


def _described(program: Program) -> dict[str, Any]:
    """Ask a process for the description of the suite, and others if it ends."""
    for left in reversed(range(PROCESSES)):
        connection = Connection(program)
        try:
            found: dict[str, Any] = connection.ask("describe", within_s=START_S)
            return found
        except ServedSuiteLost:
            if not left:
                raise
        finally:
            connection.close()
    raise AssertionError


@functools.cache
def _versions(interpreter: str, packages: tuple[str, ...]) -> tuple[str, ...]:
    """Versions of packages in an interpreter; all `NOT_INSTALLED` if it lacks one."""
    command = [interpreter, "-I", "-c", VERSIONS, *packages]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return tuple(json.loads(done.stdout))
    return (NOT_INSTALLED,) * len(packages)
