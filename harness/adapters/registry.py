"""Adapters by suite and robot convention."""

from __future__ import annotations

from collections.abc import Iterable

from simloop.envs.interface import TaskSpec
from simloop.envs.plugins import Registry
from simloop.harness.adapters.adapter_file import REGISTERED, AdapterFile, adapter_file_in_use
from simloop.harness.adapters.aloha import ALOHA_SIM, RAW_ALOHA_SIM
from simloop.harness.adapters.base import ANY_ROBOT, Adapter, AdapterError
from simloop.harness.adapters.libero import LIBERO, LIBERO_PLUS, LIBERO_PRO
from simloop.harness.adapters.metaworld import METAWORLD, METAWORLD_HAND
from simloop.harness.adapters.served import SERVED, SUITE_EXPERT
from simloop.policies.interface import PolicySpec


def _key(adapter: Adapter) -> str:
    return f"{adapter.suite}/{adapter.robot}"


_ADAPTERS = (METAWORLD, METAWORLD_HAND, LIBERO, LIBERO_PRO, LIBERO_PLUS, ALOHA_SIM, RAW_ALOHA_SIM, *SERVED)

ADAPTERS: Registry[Adapter] = Registry(
    "simloop.adapters",
    Adapter,
    {_key(adapter): adapter for adapter in _ADAPTERS},
    name_of=_key,
)
"""Adapters by `SUITE/ROBOT`."""


def find_adapter(suite: str, policy: PolicySpec, file: AdapterFile | None = None) -> Adapter:
    """The adapter for a policy on a suite.

    Args:
      file: Replaces the registered adapter of its suite and robot; by default that of `use_adapter_file`, if any.
        `REGISTERED` replaces none.

    Raises:
      AdapterError: If there is none.
    """
    if policy.robot == ANY_ROBOT:
        return Adapter(suite=suite, robot=ANY_ROBOT, cameras={camera: camera for camera in policy.cameras})
    file = file or adapter_file_in_use() or REGISTERED
    if file != REGISTERED and _key(file.load()) == f"{suite}/{policy.robot}":
        return file.load()
    if f"{suite}/{policy.robot}" in ADAPTERS:
        return ADAPTERS[f"{suite}/{policy.robot}"]
    if policy.uses_privileged and f"{suite}/{SUITE_EXPERT}" in ADAPTERS:
        return ADAPTERS[f"{suite}/{SUITE_EXPERT}"]
    known = [name.removeprefix(f"{suite}/") for name in ADAPTERS if name.startswith(f"{suite}/")]
    raise AdapterError(
        f"Policy {policy.name!r} uses the robot convention {policy.robot!r}; suite {suite!r} has adapters for "
        f"{', '.join(map(repr, known)) or 'none'}. Choose a policy made for this robot (simloop list policies) or "
        f"add an adapter {suite}/{policy.robot} (entry-point group simloop.adapters)."
    )


def filmed_cameras(policies: Iterable[PolicySpec], tasks: list[TaskSpec]) -> tuple[str, ...]:
    """Cameras of the suite that a video shows: those that the policies observe, which are rendered anyway.

    Raises:
      AdapterError: If a policy does not fit the tasks.
    """
    observed = [
        adapter.cameras[camera]
        for policy in policies
        for adapter in [checked_adapter(policy, tasks)]
        for camera in policy.cameras
    ]
    return tuple(dict.fromkeys(observed)) or tasks[0].cameras[:2]


def checked_adapter(policy: PolicySpec, tasks: list[TaskSpec], file: AdapterFile | None = None) -> Adapter:
    """The adapter for a policy on tasks of one suite.

    Args:
      file: As in `find_adapter`.

    Raises:
      AdapterError: If there is none, or it does not fit the policy and every one of the tasks.
    """
    adapter = find_adapter(tasks[0].suite, policy, file)
    for task in tasks:
        adapter.check(policy, task)
    return adapter
