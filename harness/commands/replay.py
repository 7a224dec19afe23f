"""`simloop replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say

RESULTS = {True: "equal", False: "DIFFERS", None: "not compared"}


def command(
    run: Annotated[Positional[Path], arg("RUN")],
    episodes: Annotated[Positional[tuple[str, ...]], arg("[EPISODE ...]", "all finished ones")] = (),
    *,
    adapter: Annotated[tuple[str, ...], arg("FILE:NAME [...]", "the registered one")] = (),
    code: Annotated[tuple[str, ...], arg("P [P ...]", "none")] = (),
    policy: bool = False,
) -> int:
    """Prove that a recorded episode can be repeated to the last bit, or say where it departs and by how much.

    With step records (simloop run --record), the recorded actions are played from the seed, and from the state saved
    at every query up to the next. Without them, the policy plays the episode again, and the hashes of the ledger are
    compared. Nothing in the run folder changes. The exit status is 1 if anything differs or could not be compared.

    Examples:

      simloop replay runs/demo pi0-tiny/pick-place-v3/2 --policy

      simloop replay runs/demo pi0-tiny/pick-place-v3/2 --policy --adapter repaired.py:ADAPTER

    Args:
      run: Run folder.
      episodes: POLICY/TASK/NUMBER each.
      adapter: Adapters in Python files: the one with which the run was played and, with --policy, another to try, or
        registered: what would the policy be shown with it, and what would the robot do?
      code: Policies and suites of one's own that the run was played with, written as in simloop run.
      policy: Also ask the policy every recorded query again, and compare its chunks.
    """
    from simloop.harness.adapters.adapter_file import use_adapter_files_of
    from simloop.harness.adapters.base import AdapterError
    from simloop.harness.debugging.replay import finished_episodes, replay
    from simloop.harness.planning.code_of_runs import vouch_for

    tried = use_adapter_files_of(run, adapter, another=True)
    if tried is not None and not policy:
        raise AdapterError(
            f"{run} was played with another adapter than {tried.name}. Add --policy to see what it changes, or leave "
            "it out."
        )
    vouch_for(code)
    equal, count = 0, 0
    for name in episodes or finished_episodes(run):
        agrees = True
        for finding in replay(run, name, policy=policy, tried=tried):
            agrees &= finding.equal is True
            say(f"{name}  {RESULTS[finding.equal]}  {finding.text}")
        equal, count = equal + agrees, count + 1
    if count != 1:
        say(f"{equal} of {count} episodes are repeated to the last bit.")
    return 0 if equal == count else 1
