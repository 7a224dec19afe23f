"""Which adapter joins a suite to a robot convention."""

from __future__ import annotations

from simloop.envs.interface import TaskSpec
from simloop.harness.adapters.aloha import ALOHA_SIM
from simloop.harness.adapters.base import Adapter, AdapterError
from simloop.harness.adapters.libero import LIBERO
from simloop.harness.adapters.metaworld import METAWORLD, METAWORLD_HAND
from simloop.policies.interface import PolicySpec

ADAPTERS: tuple[Adapter, ...] = (METAWORLD, METAWORLD_HAND, LIBERO, ALOHA_SIM)

ANY_ROBOT = "any"
"""Robot convention of scripted policies, which speak the suite's own state and actions."""


def find_adapter(suite: str, policy: PolicySpec) -> Adapter:
    """The adapter for a policy on a suite.

    Raises:
      AdapterError: If nobody wrote one.
    """
    if policy.robot == ANY_ROBOT:
        return Adapter(suite=suite, robot=ANY_ROBOT)
    for adapter in ADAPTERS:
        if (adapter.suite, adapter.robot) == (suite, policy.robot):
            return adapter
    known = [adapter.robot for adapter in ADAPTERS if adapter.suite == suite]
    raise AdapterError(
        f"Policy {policy.name!r} speaks the robot convention {policy.robot!r}; suite {suite!r} has adapters for "
        f"{', '.join(map(repr, known)) or 'none'}. Pick a policy made for this robot (simloop list policies) or "
        "add an adapter in harness/adapters/."
    )


def checked_adapter(policy: PolicySpec, tasks: list[TaskSpec]) -> Adapter:
    """The adapter for a policy on tasks of one suite, after checking that it fits every one of them."""
    adapter = find_adapter(tasks[0].suite, policy)
    for task in tasks:
        adapter.check(policy, task)
    return adapter
