"""Experiments of one's own in files: TOML tables, or Python with `EXPERIMENT` or `EXPERIMENTS`.

A TOML file has the fields of an experiment. `[[parts]]` splits it by suite: each part has the fields of the file,
except those that it sets itself, and is a run of its own. `[adapters.NAME]` are tables of
`simloop.harness.adapters.adapter_table`, which parts refer to by `adapter = "NAME"`, `[robots.NAME]` those of policy
servers (`simloop.harness.remote.robots`), and `[table]` has the options of `simloop.results.tables.options`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from simloop.envs import registry
from simloop.harness.errors import SpecificationError
from simloop.harness.planning.experiment import Experiment, ExperimentError
from simloop.harness.planning.own_suites import use_suite
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.protocol import DEFAULT, named_protocol
from simloop.harness.planning.source_code import SourceCode
from simloop.results.records.written_policies import CODE, policy_name, split_name
from simloop.results.statistics.designs import Design
from simloop.untrusted import read_toml


@dataclass(frozen=True)
class Part:
    """One run of an experiment file."""

    experiment: Experiment
    adapter: str | None = None
    """Adapter as after `--adapter`; None for the registered ones."""


def _with_axes(design: Any) -> Any:
    """A design whose axes are a table of largest strengths by kind."""
    if isinstance(design, Mapping) and isinstance(design.get("axes"), Mapping):
        return {**design, "axes": tuple(design["axes"].items())}
    return design


@dataclass(frozen=True)
class _Fields:
    """A part as written."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    policies: tuple[str, ...]
    name: str = ""
    suite: str = "metaworld"
    tasks: tuple[str, ...] = ()
    episodes: int = 10
    seed: int = 0
    batch_size: int | None = None
    protocol: str = DEFAULT
    perturb: tuple[str, ...] = ()
    design: Annotated[Design | None, BeforeValidator(_with_axes)] = None
    adapter: str | None = None

    def part(self, file: Path) -> Part:
        suite = use_suite(_beside(file, self.suite))
        experiment = Experiment(
            self.name or file.stem,
            suite,
            self.tasks or (registry.suite(suite).default_group,),
            tuple(_beside(file, policy) for policy in self.policies),
            self.episodes,
            self.seed,
            replace(
                named_protocol(suite, self.protocol),
                perturbations=tuple(map(Perturbation.parse, self.perturb)),
            ),
            self.batch_size,
            design=self.design,
        )
        return Part(experiment, None if self.adapter is None else f"{file}:{self.adapter}")


_FIELDS = TypeAdapter(_Fields)
_ROBOT = re.compile(r"[?&]robot=(?P<file>[^&]+\.toml):")


def is_experiment_file(name: str) -> bool:
    """Whether a name on the command line is the path of an experiment file."""
    return name.endswith((".toml", ".py"))


def read_experiments(file: Path) -> list[Part]:
    """Read an experiment file; one of Python is executed.

    Raises:
      ExperimentError: If there is no such file, or it describes no experiment.
      SpecificationError: If a policy or suite in it cannot be read.
    """
    if not file.is_file():
        raise ExperimentError(f"There is no experiment file {file}.")
    return _of_python(file) if file.suffix == ".py" else _of_toml(file)


def _of_python(file: Path) -> list[Part]:
    module = SourceCode.read(str(file)).execute()
    found = getattr(module, "EXPERIMENTS", None) or [getattr(module, "EXPERIMENT", None)]
    if not all(isinstance(experiment, Experiment) for experiment in found):
        raise ExperimentError(f"{file} needs EXPERIMENT = Experiment(...), or EXPERIMENTS, a list of them.")
    adapter = f"{file}:ADAPTER" if hasattr(module, "ADAPTER") else None
    return [Part(experiment, adapter) for experiment in found]


def _of_toml(file: Path) -> list[Part]:
    content = read_toml(file, error=ExperimentError)
    for read_elsewhere in ("adapters", "robots", "table"):
        content.pop(read_elsewhere, None)
    parts: Any = content.pop("parts", [{}])
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise ExperimentError(f"{file}: parts are written [[parts]], one table each.")
    return [_validated(file, content | dict(part)).part(file) for part in parts]


def _validated(file: Path, content: Mapping[str, Any]) -> _Fields:
    try:
        return _FIELDS.validate_python(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'file'}: {p['msg']}" for p in error.errors())
        raise ExperimentError(f"{file} is no experiment: {problems}.") from error


def _beside(file: Path, written: str) -> str:
    """A policy or suite with relative paths to code or to the table of a robot, which begin at the experiment file."""
    name, policy = split_name(written)
    if (robot := _ROBOT.search(policy)) and not Path(robot["file"]).is_absolute():
        found = f"{policy[: robot.start('file')]}{file.parent / robot['file']}{policy[robot.end('file') :]}"
        return found if written == policy else f"{name}={found}"
    code = CODE.fullmatch(policy)
    if code is None or not code["module"].endswith(".py") or Path(code["module"]).is_absolute():
        return written
    found = f"{file.parent / code['module']}:{code['attribute']}{code['arguments'] or ''}"
    if not (file.parent / code["module"]).is_file():
        raise SpecificationError(f"{file} names {code['module']}, which is not beside it.")
    return found if policy_name(found) == name else f"{name}={found}"
