"""Suites of one's own: code, and environments of gymnasium, named by `--suite` in place of a registered suite.

    ./my_suite.py:MySuite[?KEY=VALUE...]        a class, function or object that is or makes a Suite
    gym:ENV_ID[,ENV_ID...][?KEY=VALUE...]       environments that are registered with gymnasium
    process:./my_suite.py?python=PATH           a suite in an interpreter of its own, which a child process runs

`SUITE_SCHEMES` is the table of forms. A suite is loaded in every process that simulates; what it is, is part of the
protocol's label, so that episodes of different versions or mappings never share a table.
"""

from __future__ import annotations

import abc
import ast
import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simloop.envs import registry
from simloop.envs.interface import Env, RenderSettings, Suite
from simloop.envs.plugins import Registry
from simloop.harness.errors import SpecificationError
from simloop.harness.planning.arguments import typed_arguments
from simloop.harness.planning.policy_sources import Specification, named_interpreter, parse_specification
from simloop.harness.planning.source_code import SourceCode
from simloop.results.records.written_policies import CODE


class SuiteSource(abc.ABC):
    """A suite that is not loaded yet. Picklable and hashable."""

    @property
    @abc.abstractmethod
    def identity(self) -> str:
        """What the suite is, without the place of its files: part of the protocol."""

    @abc.abstractmethod
    def load(self) -> Suite:
        """Make the suite in this process."""


@dataclass(frozen=True)
class SuiteScheme:
    """A form of specifications of suites."""

    name: str
    resolve: Callable[[Specification], SuiteSource]


@dataclass(frozen=True)
class CodeSuite(SuiteSource):
    """A suite that source code defines."""

    code: SourceCode
    arguments: tuple[tuple[str, str], ...]

    @property
    def identity(self) -> str:
        return f"{self.code.identity}{_written(self.arguments)}"

    def load(self) -> Suite:
        found, where = self.code.load(), f"{self.code.module}:{self.code.attribute}"
        if callable(found) and not isinstance(found, Suite):
            found = found(**typed_arguments(found, dict(self.arguments), where))
        if not isinstance(found, Suite):
            raise SpecificationError(
                f"{where} is {found!r}; wanted a simloop.envs.interface.Suite, or what makes one."
            )
        return found


@dataclass(frozen=True)
class GymSource(SuiteSource):
    """Environments of gymnasium."""

    ids: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...]
    """Of the mapping and of `gymnasium.make`."""
    module: str = ""
    """Module to import first, which registers the environments."""
    code: SourceCode | None = None
    """The same as a file."""

    @property
    def identity(self) -> str:
        module = self.code.identity if self.code else self.module
        return "gym" + _written((*self.arguments, *([("module", module)] if module else [])))

    def load(self) -> Suite:
        from simloop.envs.gymnasium_suite import GymMapping, GymSuite

        if self.code is not None:
            self.code.execute()
        elif self.module:
            try:
                importlib.import_module(self.module)
            except ImportError as error:
                raise SpecificationError(f"module={self.module} cannot be imported: {error}.") from error
        names = {field.name for field in dataclasses.fields(GymMapping)} - {"make"}
        mapping = {key: value for key, value in self.arguments if key in names}
        made = {key: _literal(value) for key, value in self.arguments if key not in names}
        listed = {key: tuple(mapping.pop(key).split(",")) for key in ("cameras", "state") if key in mapping}
        typed: dict[str, Any] = listed | typed_arguments(GymMapping, mapping, "gym:")
        return GymSuite(self.ids, GymMapping(**typed, make=made))


@dataclass(frozen=True)
class ServedSource(SuiteSource):
    """A suite in an interpreter of its own."""

    code: SourceCode
    interpreter: str
    arguments: tuple[tuple[str, str], ...]

    @property
    def identity(self) -> str:
        return f"{self.code.identity}{_written(self.arguments)}"

    def load(self) -> Suite:
        from simloop.envs.served.connection import Program
        from simloop.envs.served.suite import DescribedSuite

        arguments = {key: _literal(value) for key, value in self.arguments}
        return DescribedSuite(Program(self.interpreter, self.code.path(), arguments), self.identity)


def _literal(text: str) -> object:
    """An argument of a function that is not known here: a Python literal, else text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _written(arguments: tuple[tuple[str, str], ...]) -> str:
    return "?" + "&".join(f"{key}={value}" for key, value in sorted(arguments)) if arguments else ""


def _code_suite(specification: Specification) -> SuiteSource:
    module, _, attribute = specification.target.rpartition(":")
    return CodeSuite(SourceCode.read(module, attribute), tuple(specification.arguments.items()))


def _gym_suite(specification: Specification) -> SuiteSource:
    ids = tuple(filter(None, specification.target.split(",")))
    if not ids:
        raise SpecificationError(
            f"gym: names environments, as in gym:Reacher-v5; got {specification.text!r}."
        )
    arguments = dict(specification.arguments)
    module = arguments.pop("module", "")
    code = SourceCode.read(module) if module.endswith(".py") else None
    return GymSource(ids, tuple(arguments.items()), "" if code else module, code)


def _served_suite(specification: Specification) -> SuiteSource:
    file = Path(specification.target).expanduser().resolve()
    if file.suffix != ".py":
        raise SpecificationError(
            f"process: takes a Python file, process:FILE.py; got {specification.text!r}."
        )
    interpreter = named_interpreter(specification, file.parent)
    arguments = tuple((key, value) for key, value in specification.arguments.items() if key != "python")
    return ServedSource(SourceCode.read(str(file)), interpreter, arguments)


SUITE_SCHEMES: Registry[SuiteScheme] = Registry(
    "simloop.suite_schemes",
    SuiteScheme,
    {
        "code": SuiteScheme("code", _code_suite),
        "gym": SuiteScheme("gym", _gym_suite),
        "process": SuiteScheme("process", _served_suite),
    },
    name_of=lambda scheme: scheme.name,
)
"""Forms of suites by what stands before the first colon; code needs no scheme."""

_in_use: ContextVar[Mapping[str, SuiteSource]] = ContextVar("own suites", default={})  # noqa: B039


def resolve_suite(written: str) -> SuiteSource | None:
    """The source of a suite of one's own; None for the name of a registered one. Nothing is executed.

    Raises:
      SpecificationError: If the specification cannot be read.
    """
    scheme, colon, _ = written.partition(":")
    if not colon or (scheme not in SUITE_SCHEMES and not CODE.fullmatch(written)):
        return None
    specification = parse_specification(written, SUITE_SCHEMES)
    return SUITE_SCHEMES[specification.scheme].resolve(specification)


def use_suite(written: str) -> str:
    """Make a suite, as written on the command line, available in this process and those of its runs.

    Returns:
      Its name.

    Raises:
      SpecificationError: If a specification cannot be read, or denotes no suite.
    """
    source = resolve_suite(written)
    return written if source is None else use_source(source)


def use_source(source: SuiteSource) -> str:
    """As `use_suite`, for what `resolve_suite` returned."""
    suite = _loaded(source)
    registry.SUITES.add(suite.name, suite)
    _in_use.set({**_in_use.get(), suite.name: source})
    return suite.name


@functools.cache
def _loaded(source: SuiteSource) -> Suite:
    return source.load()


def own_suites_in_use() -> tuple[SuiteSource, ...]:
    """What `use_suite` resolved in this process."""
    return tuple(_in_use.get().values())


def own_suite_identity(suite: str) -> str:
    """Identity of a suite of one's own by its name; empty for registered ones."""
    source = _in_use.get().get(suite)
    return "" if source is None else source.identity


@dataclass(frozen=True)
class EnvMaker:
    """Start simulations in the processes of a run, of suites of one's own too."""

    sources: tuple[SuiteSource, ...] = ()

    def __call__(self, suite: str, task: str, render: RenderSettings) -> Env:
        """Start a simulation of a task."""
        for source in self.sources:
            use_source(source)
        return registry.suite(suite).make(task, render)
