"""Policies of one's own: a class, a function or an object in Python source that the command line names."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simloop.harness.errors import SpecificationError
from simloop.harness.planning.arguments import typed_arguments
from simloop.harness.planning.policy_sources import PolicySource, Scheme, Specification
from simloop.harness.planning.source_code import SourceCode
from simloop.policies.function_policy import FunctionPolicy, policy
from simloop.policies.interface import BatchedPolicy, Policy, PolicySpec, batched
from simloop.policies.registry import PolicyEntry


@dataclass(frozen=True)
class CodePolicy(PolicySource):
    """A policy that source code defines."""

    code: SourceCode
    arguments: Mapping[str, str]

    def spec(self) -> PolicySpec:
        """Interface of the policy: the attribute `spec` of the class, else that of an object that is made for it."""
        found = self.code.load()
        declared = getattr(found, "spec", None)
        spec = declared if isinstance(declared, PolicySpec) else self._make(found).spec
        if not isinstance(spec, PolicySpec):
            raise SpecificationError(f"{self._where} has as spec {spec!r}; wanted a PolicySpec.")
        return spec

    def load(self) -> Policy | BatchedPolicy:
        """Make the policy, which loads its weights.

        Raises:
          SpecificationError: If it has another spec than its class, by which the run was planned.
        """
        made, planned = self._make(self.code.load()), self.spec()
        if made.spec != planned:
            raise SpecificationError(
                f"{self._where} has the spec {made.spec} once it is made, and {planned} before. Set spec either on "
                "the class or in __init__."
            )
        return made

    def fingerprint(self) -> dict[str, str]:
        return self.code.fingerprint()

    @property
    def _where(self) -> str:
        return f"{self.code.module}:{self.code.attribute}"

    def _make(self, found: Any) -> Policy | BatchedPolicy:
        made = made_policy(found, self.arguments, self._where)
        if not isinstance(made, Policy | BatchedPolicy):
            raise SpecificationError(
                f"{self._where} is {made!r}, which is no policy. Wanted a class with the attribute spec and the method "
                "infer, a function of an observation, or a PolicyEntry."
            )
        return made


def made_policy(found: Any, arguments: Mapping[str, str], where: str) -> Any:
    """Make a policy of a class, a function of an observation, a `PolicyEntry` or a policy object.

    Raises:
      SpecificationError: If the arguments do not fit.
    """
    if isinstance(found, type):
        return found(**typed_arguments(found, arguments, where))
    if isinstance(found, PolicyEntry):
        found = found.load(None)
    elif callable(found) and not isinstance(found, Policy | BatchedPolicy):
        found = policy(found)
    if isinstance(found, FunctionPolicy):
        return found.bound(**typed_arguments(found.function, arguments, where, skip=1))
    typed_arguments(lambda: None, arguments, where)  # An object takes none.
    return found


def policy_of(found: Any) -> BatchedPolicy:
    """The policy of an object, a class or a function of this process, with the hash of its source if that is known.

    Raises:
      SpecificationError: If it is none of these.
    """
    name = getattr(found, "__name__", type(found).__name__)
    made = made_policy(found, {}, name)
    if not isinstance(made, Policy | BatchedPolicy):
        raise SpecificationError(f"{name} is no policy: it needs the attribute spec and the method infer.")
    policy = batched(made)
    if not policy.source_hashes and (source := _source(found)):
        policy.source_hashes = {f"source of {name}": hashlib.sha256(source.encode()).hexdigest()}
    return policy


def _source(found: Any) -> str | None:
    """Text of a class or function of one's own; None for those of simloop, and where Python does not know it."""
    defined = found.function if isinstance(found, FunctionPolicy) else found
    if not (isinstance(defined, type) or inspect.isfunction(defined)):
        defined = type(defined)
    if defined.__module__.startswith("simloop."):
        return None
    try:
        return inspect.getsource(defined)
    except (OSError, TypeError):
        return None


def _resolve(specification: Specification) -> PolicySource:
    module, _, attribute = specification.target.rpartition(":")
    return CodePolicy(SourceCode.read(module, attribute), specification.arguments)


SCHEME = Scheme("code", _resolve)
