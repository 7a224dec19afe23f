"""Policies named by a specification rather than by a registered name: code, servers, other interpreters.

`SCHEMES` is the one table of what may stand before the first colon of a policy on the command line:

    [NAME=]SCHEME:TARGET[?KEY=VALUE[&KEY=VALUE ...]]     e.g. openpi://localhost:8000?robot=libero

To add a form, write a `Scheme` whose `resolve` returns a `PolicySource`, and enter it below as `module:ATTRIBUTE`,
which is imported when the scheme is first used. Distributions add theirs by the entry-point group
`simloop.policy_schemes`. Code (`FILE.py:NAME`, `PACKAGE.MODULE:NAME`) needs no scheme; it is that of `code`.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from simloop.envs.plugins import Registry
from simloop.harness.errors import SpecificationError
from simloop.policies.interface import BatchedPolicy, Policy, PolicySpec
from simloop.results.records.written_policies import CODE


@dataclass(frozen=True)
class Specification:
    """A policy or suite as written, without `NAME=`."""

    text: str
    scheme: str
    """What stands before the first colon; `code` for code."""
    target: str
    """What follows the scheme, without the arguments and without `//`; the whole `FILE.py:NAME` of code."""
    arguments: Mapping[str, str]
    """The arguments as text; `simloop.harness.planning.arguments` converts them to the types of a function."""


class PolicySource(abc.ABC):
    """A policy that is not loaded yet. Picklable: the driver makes it, and the processes of a run load from it."""

    @abc.abstractmethod
    def spec(self) -> PolicySpec:
        """Interface of the policy; its `name` is replaced by that of the run. Called in the driver, before `load`."""

    @abc.abstractmethod
    def load(self) -> Policy | BatchedPolicy:
        """Load the policy, or connect to it, in the process that answers its queries."""

    def fingerprint(self) -> dict[str, str]:
        """Hashes of what is known to determine the answers; added to those of the loaded policy."""
        return {}


@dataclass(frozen=True)
class Scheme:
    """A form of specifications."""

    name: str
    resolve: Callable[[Specification], PolicySource]
    """Makes the source in the driver. Raises `SpecificationError` for a target that cannot be meant."""


SCHEMES: Registry[Scheme] = Registry(
    "simloop.policy_schemes",
    Scheme,
    {
        "code": "simloop.harness.planning.code_policy:SCHEME",
        "openpi": "simloop.harness.remote.sources:OPENPI",
        "vla-eval": "simloop.harness.remote.sources:VLA_EVAL",
        "uv": "simloop.harness.remote.sources:UV",
        "process": "simloop.harness.remote.sources:PROCESS",
    },
    name_of=lambda scheme: scheme.name,
)
"""Forms of specifications by what stands before the first colon."""


def is_specification(policy: str) -> bool:
    """Whether a policy, written without `NAME=`, is a specification rather than a registered name."""
    scheme, colon, _ = policy.partition(":")
    return bool(colon) and (scheme in SCHEMES or CODE.fullmatch(policy) is not None)


def resolve(policy: str) -> PolicySource:
    """The source of a policy, written without `NAME=`, for which `is_specification` holds.

    Raises:
      SpecificationError: If the specification cannot be read.
    """
    specification = parse_specification(policy)
    return SCHEMES[specification.scheme].resolve(specification)


def parse_specification(text: str, schemes: Container[str] = SCHEMES) -> Specification:
    """Split `SCHEME:TARGET?KEY=VALUE&KEY=VALUE`. Values may be percent-encoded.

    Args:
      schemes: Schemes that take precedence over the reading as code.

    Raises:
      SpecificationError: If an argument is not written KEY=VALUE, or given twice.
    """
    body, question, query = text.partition("?")
    scheme, _, target = body.partition(":")
    pairs = [argument.partition("=") for argument in query.split("&")] if question else []
    arguments = {key: unquote(value) for key, _, value in pairs}
    if not all(key and equals for key, equals, _ in pairs) or len(arguments) < len(pairs):
        raise SpecificationError(
            f"Arguments are written ?KEY=VALUE&KEY=VALUE, each key once, as in {body}?device=cpu; got {text!r}."
        )
    if scheme not in schemes and CODE.fullmatch(body):
        return Specification(text, "code", body, arguments)
    return Specification(text, scheme, target.removeprefix("//"), arguments)


def named_interpreter(specification: Specification, folder: Path) -> str:
    """The interpreter that `?python=PATH` names, else that of the virtual environment `.venv` in a folder.

    Raises:
      SpecificationError: If it cannot be executed.
    """
    given = specification.arguments.get("python", str(folder / ".venv" / "bin" / "python"))
    # Not resolved: the interpreter of a virtual environment is a link, and its own place is what makes it one.
    interpreter = os.path.abspath(Path(given).expanduser())
    if not os.access(interpreter, os.X_OK):
        raise SpecificationError(
            f"There is no interpreter {interpreter}. Make the virtual environment, or name another one: "
            f"{specification.scheme}:{specification.target}?python=PATH."
        )
    return interpreter
