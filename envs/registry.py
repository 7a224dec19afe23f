"""Suites and their tasks by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from simloop.envs.interface import Suite, SuiteNotInstalledError, TaskSpec
from simloop.envs.plugins import Registry, UnknownNameError

SUITES: Registry[Suite] = Registry(
    "simloop.suites",
    Suite,  # type: ignore[type-abstract]
    {
        "metaworld": "simloop.envs.metaworld:MetaWorld",
        "libero": "simloop.envs.libero:Libero",
        "libero_pro": "simloop.envs.libero:LiberoPro",
        "libero_plus": "simloop.envs.libero_plus:LiberoPlus",
        "aloha_sim": "simloop.envs.aloha_sim:AlohaSim",
        "robosuite": "simloop.envs.robosuite:Robosuite",
        "maniskill": "simloop.envs.maniskill:ManiSkill",
        "simpler_bridge": "simloop.envs.maniskill:SimplerBridge",
        "robocasa": "simloop.envs.robocasa:RoboCasa",
        "molmospaces": "simloop.envs.molmospaces:MolmoSpaces",
    },
    name_of=lambda suite: suite.name,
)
"""Suites by name. The packages of a suite take seconds to import and may be absent: a suite imports them in `make`."""


def suites() -> tuple[str, ...]:
    """Names of all suites."""
    return tuple(SUITES)


def suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
      UnknownNameError: If there is none.
    """
    return SUITES[name]


def resolve_tasks(suite_name: str, names: Sequence[str] = ()) -> list[TaskSpec]:
    """Resolve names of tasks and groups, in the order given; without names, the suite's default group.

    A task may be named without its version (`reach` for `reach-v3`) where that is unambiguous. A task
    that is named twice is returned once.

    Raises:
      UnknownNameError: If the suite, or a task or group of it, does not exist.
      SuiteNotInstalledError: If a task or group needs files that are not there.
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
        elif reason := found.unavailable(name):
            raise SuiteNotInstalledError(reason)
        else:
            raise UnknownNameError(
                f"task or group of suite {suite_name!r} called",
                name,
                (*groups, *specs),
                f"simloop list tasks {suite_name} shows all of them.",
            )
        chosen.update((member, specs[member]) for member in members)
    return list(chosen.values())
