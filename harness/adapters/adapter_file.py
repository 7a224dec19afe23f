"""An adapter from a file that the command line names, in place of a registered one.

It is an object in a Python file, or a table `[adapters.NAME]` in a TOML file.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from simloop.harness.adapters.adapter_table import adapter_of_table, read_table
from simloop.harness.adapters.base import Adapter, AdapterError
from simloop.results.records.records import CONFIG, load_json, look_up
from simloop.untrusted import read_bytes

MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class AdapterFile:
    """The source of an adapter, which is executed in every process of a run, or its table as JSON."""

    name: str
    """`FILE:ATTRIBUTE`, without folders."""
    source: str

    @classmethod
    def read(cls, written: str) -> AdapterFile:
        """Read the file of `PATH:ATTRIBUTE` and make its adapter; `registered` gives `REGISTERED`.

        Raises:
          AdapterError: If there is no such file or no such adapter in it.
        """
        if written == REGISTERED.name:
            return REGISTERED
        path, colon, attribute = written.rpartition(":")
        if not (colon and attribute.isidentifier()):
            raise AdapterError(f"--adapter takes FILE:NAME, such as my_adapter.py:ADAPTER; got {written!r}.")
        if not Path(path).is_file():
            raise AdapterError(f"--adapter names the file {path}, which does not exist.")
        try:
            source = read_bytes(Path(path), MAX_BYTES, error=AdapterError).decode()
        except UnicodeDecodeError as error:
            raise AdapterError(f"{path} is no Python file: {error}. Save it as UTF-8.") from error
        if path.endswith(".toml"):
            source = read_table(source, attribute, path)
        file = cls(f"{Path(path).name}:{attribute}", source)
        file.load()
        return file

    @property
    def identity(self) -> str:
        """Name and start of the hash of the source, by which protocols refer to the file."""
        if not self.source:
            return self.name
        return f"{self.name}@{hashlib.sha256(self.source.encode()).hexdigest()[:12]}"

    def load(self) -> Adapter:
        """Execute the source, once in a process, and return the adapter.

        Raises:
          AdapterError: If it fails, or the attribute is no adapter.
        """
        return _execute(self)


REGISTERED = AdapterFile("registered", "")
"""Stands for the registered adapters, in place of a file."""


@functools.cache
def _execute(file: AdapterFile) -> Adapter:
    name, _, attribute = file.name.rpartition(":")
    if name.endswith(".toml"):
        return adapter_of_table(file.source)
    module = ModuleType(f"simloop_adapter_{file.identity.rpartition('@')[2]}")
    sys.modules[module.__name__] = module  # Dataclasses look their module up.
    try:
        exec(compile(file.source, name, "exec"), vars(module))
    except Exception as error:
        raise AdapterError(f"{name} cannot be executed: {type(error).__name__}: {error}.") from error
    found = vars(module).get(attribute)
    if not isinstance(found, Adapter):
        got = "nothing" if found is None else repr(found)
        raise AdapterError(f"{file.name} must be a simloop.harness.adapters.base.Adapter; got {got}.")
    return found


_used: ContextVar[AdapterFile | None] = ContextVar("adapter file", default=None)


def adapter_file_in_use() -> AdapterFile | None:
    """The file of `use_adapter_file` in this process."""
    return _used.get()


def set_adapter_file(file: AdapterFile | None) -> None:
    """As `use_adapter_file`, for a process that another one starts."""
    _used.set(file)


def use_adapter_file(written: str | None) -> str:
    """Let the adapter of `PATH:ATTRIBUTE` replace the registered one of its suite and robot in this process.

    Returns:
      Its identity; empty for None, which leaves the registered adapters.

    Raises:
      AdapterError: As `AdapterFile.read`.
    """
    set_adapter_file(None)
    if written in (None, REGISTERED.name):
        return ""
    file = AdapterFile.read(written)
    set_adapter_file(file)
    return file.identity


def use_adapter_files_of(run: Path, written: Sequence[str], *, another: bool = False) -> AdapterFile | None:
    """As `use_adapter_file`, for episodes of a run, which need the adapter that they were played with.

    Args:
      written: `PATH:ATTRIBUTE` of that adapter, unless it is the registered one, and of another to try; or
        `registered`.
      another: Whether another adapter may be tried.

    Returns:
      The other adapter; None if none was written.

    Raises:
      AdapterError: If the adapter of the run is missing, or there are others than may be.
      LedgerError: If the folder is no run folder.
    """
    played = look_up(load_json(run, CONFIG), "experiment.protocol.adapter") or REGISTERED.identity
    files = list(map(AdapterFile.read, written))
    own = [file for file in files if file.identity == played]
    others = [file for file in files if file.identity != played]
    if len(others) > another or (played != REGISTERED.identity and not own):
        advice = "Name that file, with the same content, after --adapter"
        wanted = f"the adapter {played}"
        if played == REGISTERED.identity:
            advice, wanted = "Leave --adapter out", "the registered adapters"
        if another:
            advice += ", and at most one other to try"
        got = ", ".join(file.identity for file in files) or "none"
        raise AdapterError(f"The episodes of {run} were played with {wanted}; got {got}. {advice}.")
    set_adapter_file(own[0] if own else None)
    return others[0] if others else None
