"""The command line `simloop`: finds the module of a command and hands it the remaining arguments."""

from __future__ import annotations

import argparse
import errno
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

from simloop.harness.interrupts import sigterm_as_interrupt
from simloop.untrusted import printable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OUTPUT_CLOSED = 128 + 13
"""Exit status that shells expect of a command ended by SIGPIPE."""

COMMANDS = {
    "run": "Play episodes and write records, videos and tables into a run folder.",
    "sweep": "Play an experiment under several delays of the policy and ways to execute its chunks.",
    "robustness": "Vary several perturbations on a design: success along each, and sensitivity to each.",
    "bisect": "Find between which checkpoints of a training success was lost.",
    "table": "Print the tables of one or several runs.",
    "status": "Show the progress of a run.",
    "merge": "Join run folders of several machines into one.",
    "compare": "State which policies differ, which are equivalent, and what is inconclusive.",
    "play": "Play one episode of a run again, in one process.",
    "replay": "Prove that recorded episodes can be repeated to the last bit.",
    "diagnose": "Rank tasks and moments by lost success, and group failed episodes by how they ended.",
    "debug": "Step through an episode at a prompt, in one process.",
    "fork": "Continue a recorded episode from its queries, with something changed.",
    "trajectories": "Compute where the chunks of recorded episodes lead, for the pages of a run.",
    "explain": "Show what pi0, pi0.5 or pi0-FAST looked at in a recorded query, and how sure it was.",
    "view": "Serve pages of runs: outcomes, lost moments, and every episode step by step.",
    "export": "Write recorded episodes for Rerun, LeRobot, Foxglove, or as plain tables.",
    "report": "Write the same pages to disk, with tables, figures and methods for papers.",
    "paper": "Check that the numbers in a paper agree with the runs.",
    "plan": "Compute how many episodes a comparison needs.",
    "collect": "Record demonstrations of scripted experts as a LeRobotDataset.",
    "train": "Train a policy on demonstrations.",
    "serve": "Serve a policy to robots and other programs over websockets.",
    "quantize": "Quantize the large matrix products of a policy to 8 bits.",
    "merge-lora": "Merge adapters of PEFT into the policy that they were trained on.",
    "inspect": "Show what a checkpoint contains, and which preset fits.",
    "import-results": "Import results of other programs as published rates.",
    "list": "List suites, tasks, protocols, policies, experiments or perturbations.",
    "check": "Check that a policy or a suite keeps its promises.",
    "doctor": "Check that everything simloop needs works on this machine.",
    "parity": "Compare the models with recorded outputs of the reference implementation.",
    "bench": "Measure the speed of the engine and of policies.",
}


def main() -> None:
    """Run a command; an exception marked `user_facing` or a full disk is said in a sentence, without a traceback.

    A reader of the output that ends first, such as `head`, ends the command without one.
    """
    warnings.formatwarning = _format_warning
    try:
        with sigterm_as_interrupt():
            try:
                sys.exit(_call(*_parsed()))
            finally:
                sys.stdout.flush()
    except KeyboardInterrupt:
        from simloop.harness.commands.options import INTERRUPTED

        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # Python flushes them once more when it ends.
            os.dup2(nowhere, stream.fileno())
        sys.exit(OUTPUT_CLOSED)
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in DISK_FULL
        if not full and not getattr(error, "user_facing", False):
            raise
        from simloop.harness.commands.options import MISUSED

        remedy = ". Make room and repeat the command; what was finished is kept." if full else ""
        print(f"simloop: {printable(str(error))}{remedy}", file=sys.stderr)
        sys.exit(MISUSED)


_format_others = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Show simloop's own warnings as sentences, without the place in the code."""
    if category.__module__.startswith("simloop."):
        return f"simloop: {printable(str(message))}\n"
    return _format_others(message, category, filename, lineno, line)


def _parsed() -> tuple[str, list[str]]:
    """Name of the command, and its arguments."""
    parser = argparse.ArgumentParser(
        prog="simloop",
        description="Evaluate robot policies closed-loop in simulation.",
        epilog="`simloop COMMAND --help` describes a command.",
    )
    parser.add_argument("--version", action="version", version=f"simloop {metadata.version('simloop')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    return parser.parse_args(sys.argv[1:2]).command, sys.argv[2:]


def _call(name: str, arguments: list[str]) -> Any:
    import tyro
    from tyro.extras import SubcommandApp

    command = importlib.import_module(f"simloop.harness.commands.{name.replace('-', '_')}").command
    if isinstance(command, SubcommandApp):
        return command.cli(prog=f"simloop {name}", description=COMMANDS[name], args=arguments)
    return tyro.cli(command, prog=f"simloop {name}", description=_described(command), args=arguments)


def _described(command: Callable[..., Any]) -> str:
    """The docstring of a command up to its arguments, with the examples, which tyro would leave out."""
    described = (inspect.getdoc(command) or "").partition("\nArgs:")[0]
    return described.replace("\n\n  ", "\n  ")  # Lines that are indented stay lines.


if __name__ == "__main__":
    main()
