"""An adapter from a Python file that the command line names, in place of a registered one."""

from __future__ import annotations

import functools
import hashlib
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from simloop.harness.adapters.base import Adapter, AdapterError
from simloop.results.records.records import CONFIG, load_json, look_up
from simloop.untrusted import read_bytes

MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class AdapterFile:
    """The source of an adapter, which is executed in every process of a run."""

    name: str
    """`FILE:ATTRIBUTE`, without folders."""
    source: str

    @classmethod
    def read(cls, written: str) -> AdapterFile:
        """Read the file of `PATH:ATTRIBUTE` and make its adapter.

        Raises:
          AdapterError: If there is no such file or no such adapter in it.
        """
        path, colon, attribute = written.rpartition(":")
        if not (colon and attribute.isidentifier()):
            raise AdapterError(f"--adapter takes FILE:NAME, such as my_adapter.py:ADAPTER; got {written!r}.")
        if not Path(path).is_file():
            raise AdapterError(f"--adapter names the file {path}, which does not exist.")
        try:
            source = read_bytes(Path(path), MAX_BYTES, error=AdapterError).decode()
        except UnicodeDecodeError as error:
            raise AdapterError(f"{path} is no Python file: {error}. Save it as UTF-8.") from error
        file = cls(f"{Path(path).name}:{attribute}", source)
        file.load()
        return file

    @property
    def identity(self) -> str:
        """Name and start of the hash of the source, by which protocols refer to the file."""
        return f"{self.name}@{hashlib.sha256(self.source.encode()).hexdigest()[:12]}"

    def load(self) -> Adapter:
        """Execute the source, once in a process, and return the adapter.

        Raises:
          AdapterError: If it fails, or the attribute is no adapter.
        """
        return _execute(self)


@functools.cache
def _execute(file: AdapterFile) -> Adapter:
    name, _, attribute = file.name.rpartition(":")
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
    if written is None:
        return ""
    file = AdapterFile.read(written)
    set_adapter_file(file)
    return file.identity


def use_adapter_file_of(run: Path, written: str | None) -> None:
    """As `use_adapter_file`, for episodes of a run, which need the adapter that they were played with.

    Raises:
      AdapterError: If it is another one.
      LedgerError: If the folder is no run folder.
    """
    played = look_up(load_json(run, CONFIG), "experiment.protocol.adapter") or ""
    given = use_adapter_file(written)
    if given != played:
        wanted, advice = f"the adapter {played}", "Name that file, with the same content, after --adapter"
        if not played:
            wanted, advice = "the registered adapters", "Leave --adapter out"
        raise AdapterError(
            f"The episodes of {run} were played with {wanted}; got {given or 'none'}. {advice}."
        )
