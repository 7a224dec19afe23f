"""`simloop check`. Each command imports its modules when it is called, to keep the help fast."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional
from tyro.extras import SubcommandApp

from simloop.harness.commands.options import arg, say

command = SubcommandApp()


@command.command(name="policy")
def policy(
    policy: Annotated[Positional[str], arg("POLICY")],
    *,
    suite: Annotated[str, arg("S")] = "metaworld",
    task: Annotated[str | None, arg("T", "the first of the default group")] = None,
    batch_size: Annotated[int, arg("N")] = 4,
) -> int:
    """Check that a policy keeps its promises: shapes, repeatability, independence of the batch, time and memory.

    The exit status is 1 if it breaks one; a note is allowed and worth knowing.

    Args:
      policy: As in simloop run.
      suite: Suite whose observations it is asked about, as in simloop run.
      task: Task of the suite.
      batch_size: Rows of a batch.
    """
    from simloop.envs import registry
    from simloop.harness.planning.own_suites import use_suite
    from simloop.harness.planning.policy_names import load_policy
    from simloop.harness.planning.protocol import named_protocol
    from simloop.harness.policy_check import check_policy

    suite = use_suite(suite)
    first = registry.resolve_tasks(suite, () if task is None else (task,))[0].name
    failed = 0
    for found in check_policy(load_policy(policy), first, named_protocol(suite), batch_size):
        failed += found.verdict == "FAIL"
        say(str(found))
    say(f"{policy} on {suite}/{first}: " + (f"{failed} checks failed." if failed else "all checks passed."))
    return 1 if failed else 0


@command.command(name="suite")
def suite(
    suite: Annotated[Positional[str], arg("SUITE")],
    *,
    tasks: Annotated[tuple[str, ...], arg("T [T ...]", "the default group")] = (),
) -> int:
    """Check that a suite keeps the contract of simloop.envs.interface; the exit status is 1 if it does not.

    Args:
      suite: As in simloop run.
      tasks: Tasks or groups to simulate; the specs of all tasks are checked.
    """
    from simloop.envs import registry
    from simloop.envs.conformance import check_suite
    from simloop.harness.planning.own_suites import use_suite

    name = use_suite(suite)
    found = registry.suite(name)
    found.require_installed()
    failed = done = 0
    for finding in check_suite(found, [task.name for task in registry.resolve_tasks(name, tasks)]):
        done, failed = done + 1, failed + bool(finding.problem)
        if finding.problem:
            say(f"FAIL  {name}{f'/{finding.task}' * bool(finding.task)}, {finding.check}: {finding.problem}")
    say(f"{name}: " + (f"{failed} of {done} checks failed." if failed else f"all {done} checks passed."))
    return 1 if failed else 0
