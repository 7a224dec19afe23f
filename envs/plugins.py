"""Registries of named objects: those of simloop, and those that installed distributions add as entry points.

A distribution adds a suite, for example, with these lines in its `pyproject.toml`:

    [project.entry-points."simloop.suites"]
    kitchen = "kitchen_tasks.simloop:Kitchen"
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

T = TypeVar("T")


class PluginError(Exception):
    """Raised for an entry point that cannot be loaded, is of another type, or has the name of another one."""

    user_facing = True


class UnknownNameError(LookupError):
    """Raised for a name that no registry entry, task or group has."""

    user_facing = True

    def __init__(self, kind: str, name: str, known: Iterable[str], advice: str = "") -> None:
        known = tuple(known)
        by_folded = {candidate.casefold(): candidate for candidate in known}
        close = [
            by_folded[match]
            for match in difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.5)
        ]
        hint = (
            f"Did you mean {' or '.join(map(repr, close))}?" if close else f"There are: {', '.join(known)}."
        )
        super().__init__(" ".join(filter(None, (f"There is no {kind} {name!r}.", hint, advice))))


class Registry(Mapping[str, T], Generic[T]):
    """Objects by name, imported when first used.

    Iteration gives the names, built-in ones first, without importing any object.
    """

    def __init__(
        self,
        group: str,
        kind: type[T],
        builtin: Mapping[str, T | str],
        name_of: Callable[[T], str],
        reserved: Container[str] = (),
    ) -> None:
        """Create the registry of an entry-point group.

        Args:
          group: Entry-point group, such as `simloop.suites`.
          kind: Type of the objects. An entry point refers to one, or to a function or class that makes one
            without arguments.
          builtin: Objects of simloop, or where to import them from (`module:attribute`), by name.
          name_of: Name under which an object is to be registered.
          reserved: Further names that entry points must not have.
        """
        self.group = group
        self._kind = kind
        self._builtin = dict(builtin)
        self._added: set[str] = set()
        self._name_of = name_of
        self._reserved = reserved
        self._loaded: dict[str, T] = {}

    @cached_property
    def installed(self) -> dict[str, EntryPoint]:
        """Entry points of installed distributions by name.

        Raises:
          PluginError: If two of them have the same name, or one has the name of a built-in object.
        """
        found: dict[str, EntryPoint] = {}
        for entry in entry_points(group=self.group):
            other = _origin(found[entry.name]) if entry.name in found else "simloop"
            if entry.name in found or entry.name in self._builtin or entry.name in self._reserved:
                raise PluginError(
                    f"Entry points in group {self.group!r} need names of their own; both {other} and "
                    f"{_origin(entry)} have {entry.name!r}. Rename or uninstall one of them."
                )
            found[entry.name] = entry
        return found

    def __iter__(self) -> Iterator[str]:
        return iter((*self._builtin, *self.installed))

    def __len__(self) -> int:
        return len(self._builtin) + len(self.installed)

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self.installed

    def __getitem__(self, name: str) -> T:
        """The object of that name.

        Raises:
          UnknownNameError: If there is none.
          PluginError: If it cannot be imported or is not what the group holds.
        """
        if name not in self._loaded:
            if name not in self:
                label = self.group.removeprefix("simloop.").removesuffix("s")
                raise UnknownNameError(label, name, self, f"simloop list {label}s shows all of them.")
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def add(self, name: str, found: T) -> None:
        """Add an object of one's own in this process, or replace one that was added before.

        Raises:
          PluginError: If an object of simloop or of an installed distribution has the name.
        """
        if name in self and name not in self._added:
            raise PluginError(f"{self.group} has a {name!r} already. Choose a name of your own.")
        self._added.add(name)
        self._builtin[name] = found
        self._loaded.pop(name, None)

    def module(self, name: str) -> str:
        """Module that defines the object of that name; "" for a built-in object that is not imported by name."""
        builtin = self._builtin.get(name, "")
        if name in self._builtin:
            return builtin.partition(":")[0] if isinstance(builtin, str) else ""
        return self.installed[name].module

    def _load(self, name: str) -> T:
        builtin = self._builtin.get(name)
        if isinstance(builtin, self._kind):
            return builtin
        entry = EntryPoint(name, str(builtin), self.group) if name in self._builtin else self.installed[name]
        try:
            found = entry.load()
            if callable(found) and not isinstance(found, self._kind):
                found = found()
        except Exception as error:
            if name in self._builtin:
                raise
            raise PluginError(
                f"Entry point {name!r} of {_origin(entry)} in group {self.group!r} cannot be loaded from "
                f"{entry.value}: {type(error).__name__}: {error}. Repair or uninstall that distribution."
            ) from error
        if not isinstance(found, self._kind) or self._name_of(found) != name:
            got = repr(self._name_of(found)) if isinstance(found, self._kind) else type(found).__name__
            raise PluginError(
                f"Entry point {name!r} of {_origin(entry)} in group {self.group!r} must be a {self._kind.__name__} "
                f"called {name!r}, or make one without arguments; {entry.value} gave {got}. Correct the entry point."
            )
        return found


def _origin(entry: EntryPoint) -> str:
    return "simloop" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
