"""Adapters as tables of a TOML file: which camera is which, and which entries make the state and the action."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from simloop.envs.interface import Env
from simloop.harness.adapters.base import Adapter, AdapterError
from simloop.harness.adapters.openpi_observation import RobotConvention
from simloop.untrusted import parse_toml


@dataclass(frozen=True)
class AdapterTable:
    """The table `[adapters.NAME]` of an experiment file."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    suite: str
    robot: str
    """Robot convention of the policies that the adapter serves."""
    cameras: Mapping[str, str] = field(default_factory=dict)
    """Camera of the suite by the policy's name of it."""
    rotate_images: bool = False
    """Whether images are turned by 180 degrees."""
    state: tuple[int | str, ...] | None = None
    """Entries of the suite's state, by name or number, that make the policy's; by default all of them."""
    actions: tuple[int, ...] | None = None
    """Entry of the policy's action that is each entry of the task's; by default in the same order."""
    action_scale: float | tuple[float, ...] = 1.0
    """Factor of each entry of the task's action, after the reordering."""
    action_offset: float | tuple[float, ...] = 0.0
    """Added after the scaling."""

    def adapter(self) -> Adapter:
        """The adapter of the table."""
        size = {} if self.state is None else {"state": len(self.state)}
        convention = RobotConvention(state=size, from_model_actions=self._actions)
        adapter = Adapter(self.suite, self.robot, dict(self.cameras), convention, state=self._state)
        return dataclasses.replace(adapter, image=_rotated) if self.rotate_images else adapter

    def _state(self, env: Env) -> np.ndarray:
        names = env.spec.state_names
        chosen = range(len(names)) if self.state is None else self.state
        state = env.state()
        return np.array([state[names.index(entry) if isinstance(entry, str) else entry] for entry in chosen])

    def _actions(self, actions: np.ndarray) -> np.ndarray:
        ordered = actions if self.actions is None else actions[..., list(self.actions)]
        converted: np.ndarray = np.add(
            ordered * np.asarray(self.action_scale), np.asarray(self.action_offset)
        )
        return converted


def _rotated(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[::-1, ::-1])


_TABLE = TypeAdapter(AdapterTable)
_TABLES = TypeAdapter(dict[str, AdapterTable])


def read_table(text: str, name: str, where: str) -> str:
    """The table `[adapters.NAME]` of a TOML text, as JSON with sorted keys.

    Raises:
      AdapterError: If the text is no TOML, or has no such table, or the table has other keys.
    """
    try:
        tables = _TABLES.validate_python(parse_toml(text, where, error=AdapterError).get("adapters", {}))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise AdapterError(f"The adapters of {where} cannot be read: {problems}.") from error
    if name not in tables:
        raise AdapterError(f"{where} has no [adapters.{name}]; it has {', '.join(tables) or 'no adapters'}.")
    return json.dumps(dataclasses.asdict(tables[name]), sort_keys=True)


def adapter_of_table(table: str) -> Adapter:
    """The adapter of what `read_table` returned."""
    return _TABLE.validate_json(table).adapter()
