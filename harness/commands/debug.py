"""`simloop debug`."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional
from tyro.conf import arg as tyro_arg

from simloop.harness.commands.options import arg


def command(
    task: Annotated[Positional[str | None], arg("TASK", "the task of --from")] = None,
    *,
    policy: Annotated[str | None, arg("P", "expert, or the policy of --from")] = None,
    suite: Annotated[str, arg("S")] = "metaworld",
    protocol: Annotated[str, arg("NAME")] = "default-v1",
    seed: Annotated[int, arg("S")] = 0,
    episode: Annotated[int, arg("N")] = 0,
    source: Annotated[
        tuple[str, str] | None, tyro_arg(name="from", metavar="RUN EPISODE", help_behavior_hint="")
    ] = None,
    at: Annotated[int, arg("QUERY")] = 0,
    adapter: Annotated[tuple[str, ...], arg("FILE:NAME [...]", "the registered one")] = (),
    code: Annotated[tuple[str, ...], arg("P [P ...]", "none")] = (),
    script: Annotated[Path | None, arg("FILE", "the terminal, or a pipe")] = None,
) -> int:
    """Step through an episode at a prompt, in one process without Ray.

    Examples:

      simloop debug pick-place --policy pi0-tiny

      simloop debug --from runs/demo pi0-tiny/pick-place-v3/2 --at 7

      echo "until query" | simloop debug reach --policy expert

    Args:
      task: Task, with or without its version.
      policy: Policy as in simloop run; with --from, another policy that continues.
      suite: Suite of the task.
      protocol: Named rules of the episode.
      seed: Root of initial states and noise, as in simloop run.
      episode: Number of the episode of the task.
      source: Run folder and episode (POLICY/TASK/NUMBER) to open.
      at: The query before which to pause first.
      adapter: Adapter in a Python file, in place of the registered one. With --from, the one with which the run was
        played, and another that continues, or registered.
      code: Policies and suites of one's own that the run was played with, written as in simloop run.
      script: Commands, one a line. As in a pipe, the first error ends the command.
    """
    from simloop.harness.adapters.adapter_file import use_adapter_file, use_adapter_files_of
    from simloop.harness.debugging.console import Console, echoed, typed_lines
    from simloop.harness.debugging.events import SessionError
    from simloop.harness.debugging.session import Session
    from simloop.harness.planning.code_of_runs import vouch_for
    from simloop.harness.planning.own_suites import use_suite
    from simloop.harness.planning.protocol import named_protocol

    if (source is None) == (task is None):
        raise SessionError("Name either a task, or a recorded episode with --from RUN EPISODE.")
    lines = None if script is None else _lines(script)
    if source is not None:
        if (suite, protocol, seed, episode) != ("metaworld", "default-v1", 0, 0):
            raise SessionError(
                "--suite, --protocol, --seed and --episode go with a task; --from takes those of the run."
            )
        from simloop.harness.debugging.episodes import find_episode
        from simloop.harness.debugging.opening import open_episode

        tried = use_adapter_files_of(Path(source[0]), adapter, another=True)
        vouch_for(code)
        session = open_episode(find_episode(Path(source[0]), source[1]), at, policy, tried)
    else:
        assert task is not None
        suite = use_suite(suite)
        if len(adapter) > 1:
            raise SessionError(
                "An episode from its beginning has one adapter. Name one file after --adapter."
            )
        identity = use_adapter_file(adapter[0] if adapter else None)
        rules = dataclasses.replace(named_protocol(suite, protocol), adapter=identity)
        session = Session(suite, task, policy or "expert", seed, episode=episode, protocol=rules)
    with contextlib.closing(session):
        if source is None:
            session.run_until_query(at)
        console = Console(session, stop_on_error=lines is not None or not sys.stdin.isatty())
        console.run(typed_lines(console) if lines is None else echoed(lines, console))
    return 0


def _lines(script: Path) -> list[str]:
    from simloop.harness.debugging.events import SessionError

    try:
        return script.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SessionError(f"The script cannot be read: {error}.") from error
