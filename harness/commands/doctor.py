"""`simloop doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say
from simloop.terminal import Terminal


def command(
    dataset: Annotated[Positional[Path | None], arg("[DATASET]", "check the machine")] = None,
    *,
    suite: Annotated[tuple[str, ...], arg("S [S ...]", "check the machine")] = (),
    policy: Annotated[str | None, arg("P", "")] = None,
    tasks: Annotated[tuple[str, ...], arg("T [T ...]", "the first of the default group")] = (),
    adapter: Annotated[str | None, arg("FILE:NAME", "the registered one")] = None,
    prompt_source: Annotated[str, arg("SOURCE")] = "suite",
    demonstrations: Annotated[Path | None, arg("DIR", "none")] = None,
) -> int:
    """Check this machine, one line per component: whether it works, and what to do if it does not.

    With --policy, check that the policy and one suite mean the same by images, states, actions and prompts; the exit
    status is 1 if they cannot. Its part that needs no simulation runs before every run (simloop run --gate).

    Examples:

      simloop doctor --suite metaworld --policy pi0-tiny --tasks reach push

      simloop doctor --suite libero --policy pi0_libero@/ckpt --demonstrations /data/libero

    Args:
      dataset: Check the tables and statistics of this LeRobotDataset instead.
      suite: Compare images and simulator states of these suites with recorded ones instead.
      policy: Policy to check on the suite, as in simloop run.
      tasks: Tasks or groups to simulate.
      adapter: As in simloop run.
      prompt_source: As in simloop run.
      demonstrations: LeRobotDataset in the convention of the policy, with which first images and states, prompts and
        the effect of actions are compared.
    """
    from simloop.harness import doctor

    if policy is None:
        return doctor.main(Terminal(), suite, dataset)
    import dataclasses

    from simloop.envs import registry
    from simloop.harness.adapters.adapter_file import use_adapter_file
    from simloop.harness.errors import SpecificationError
    from simloop.harness.gate.trial import report, try_policy
    from simloop.harness.planning.own_suites import use_suite
    from simloop.harness.planning.policy_names import parse
    from simloop.harness.planning.protocol import named_protocol

    if len(suite) != 1:
        raise SpecificationError(f"--policy is checked on one --suite; got {len(suite)}.")
    name = use_suite(suite[0])
    found = registry.suite(name)
    found.require_installed()
    identity = use_adapter_file(adapter)
    protocol = dataclasses.replace(named_protocol(name), adapter=identity, prompt_source=prompt_source)
    named = parse(policy)
    named.require_weights()
    chosen = registry.resolve_tasks(name, tasks)
    return report(try_policy(named, chosen if tasks else chosen[:1], protocol, demonstrations), say)
