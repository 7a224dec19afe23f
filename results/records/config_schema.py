"""Types of the parts of `config.json` and `provenance.json` that tables, merges and resumed runs rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

_OPEN = ConfigDict(extra="allow", strict=True)  # Other versions write other members.


class _ExperimentOfRun(BaseModel):
    model_config = _OPEN
    suite: str = ""
    tasks: list[str] = []
    policies: list[str] = []
    episodes: int = 0
    limit: int | None = None
    stopping: dict[str, Any] | None = None


class _Config(BaseModel):
    model_config = _OPEN
    experiment: _ExperimentOfRun = _ExperimentOfRun()
    tasks: list[str] = []
    max_steps: dict[str, int] = {}
    plan_sha256: str = ""
    protocol: str = ""
    protocols: list[str] = []
    pairs: list[list[Any]] = []


class _Start(BaseModel):
    model_config = _OPEN
    packages: dict[str, str | None] = {}
    suite_packages: list[str] = []
    buckets: list[int] = []


class _PolicyOfRun(BaseModel):
    model_config = _OPEN
    kernels: dict[str, str] = {}
    fingerprint: dict[str, Any] = {}


class _Provenance(BaseModel):
    model_config = _OPEN
    starts: list[_Start] = []
    policies: dict[str, _PolicyOfRun] = {}
    compile_s: dict[str, float] = {}


_SCHEMAS: Mapping[str, type[BaseModel]] = {"config.json": _Config, "provenance.json": _Provenance}


def schema_problem(name: str, content: Mapping[str, Any]) -> str:
    """Describe the first entry of another type than a run writes; empty if there is none.

    Args:
      name: `config.json` or `provenance.json`.
    """
    try:
        _SCHEMAS[name].model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return ""
