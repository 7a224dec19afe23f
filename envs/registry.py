"""Which suites there are, and which tasks are meant by the names that people write."""

from __future__ import annotations

import difflib
import functools
import importlib
import re
from collections.abc import Iterable, Sequence

from simloop.envs.interface import Suite, TaskSpec

# Suite name to the module and class that implement it. Imported when asked for, because a suite's packages
# take seconds to import and need not all be installed.
SUITES = {
    "metaworld": ("simloop.envs.metaworld", "MetaWorld"),
    "libero": ("simloop.envs.libero", "Libero"),
    "aloha_sim": ("simloop.envs.aloha_sim", "AlohaSim"),
}


class UnknownNameError(LookupError):
    """A suite, task or group that does not exist."""

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


def suites() -> tuple[str, ...]:
    """Names of all suites."""
    return tuple(SUITES)


@functools.cache
def suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
      UnknownNameError: If there is none.
    """
    if name not in SUITES:
        raise UnknownNameError("suite", name, SUITES)
    module, class_name = SUITES[name]
    return getattr(importlib.import_module(module), class_name)()


def resolve_tasks(suite_name: str, names: Sequence[str] = ()) -> list[TaskSpec]:
    """Tasks by name or group, in the order written; the suite's default group where no name is given.

    A task may be written without its version (`reach` for `reach-v3`) where that is not ambiguous. A task
    that is named twice is returned once.

    Raises:
      UnknownNameError: If the suite, or a task or group of it, does not exist.
    """
    found = suite(suite_name)
    specs = {spec.name: spec for spec in found.tasks()}
    groups = found.groups()
    without_version: dict[str, list[str]] = {}
    for task in specs:
        without_version.setdefault(re.sub(r"-v\d+$", "", task), []).append(task)

    chosen: dict[str, TaskSpec] = {}
    for name in names or (found.default_group,):
        if name in specs:
            members: Sequence[str] = (name,)
        elif name in groups:
            members = groups[name]
        elif len(without_version.get(name, ())) == 1:
            members = without_version[name]
        else:
            raise UnknownNameError(
                f"task or group of suite {suite_name!r} called",
                name,
                (*groups, *specs),
                "List them all with 'simloop list tasks'.",
            )
        chosen.update((member, specs[member]) for member in members)
    return list(chosen.values())
