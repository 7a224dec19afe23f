"""Prompt of `simloop debug`: a session's verbs as commands, from a terminal, a file or a pipe."""

from __future__ import annotations

import cmd
import contextlib
import inspect
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simloop.cache_folder import simloop_home
from simloop.harness.adapters.adapter_file import AdapterFile
from simloop.harness.debugging.events import SessionError
from simloop.harness.debugging.inputs import described_inputs
from simloop.harness.debugging.session import Session
from simloop.harness.planning.changes import Changes, Move
from simloop.harness.planning.perturbation import Perturbation
from simloop.policies.interface import Chunk

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer

FORK_OPTIONS = ("policy", "prompt", "noise-seed", "replan-steps", "perturb", "move", "adapter")

np.set_printoptions(precision=3, suppress=True)


class Console(cmd.Cmd):
    """Commands of the prompt; each prints where the episode is afterwards.

    Args:
      stop_on_error: Whether an error or Ctrl-C ends the console, as scripts need, or only the command.
    """

    prompt = "(simloop) "

    def __init__(self, session: Session, *, stop_on_error: bool):
        super().__init__()
        self.session = session
        self._stop_on_error = stop_on_error
        self.saved = {"start": session.snapshot()}

    def run(self, lines: Iterable[str]) -> None:
        """Execute lines until one of them quits. Empty lines and those that begin with # do nothing."""
        print(self.session)
        for line in lines:
            if line.strip() and not line.lstrip().startswith("#") and self.onecmd(line.strip()):
                return

    def onecmd(self, line: str) -> bool:
        """Execute a line; returns whether it quits."""
        try:
            return bool(super().onecmd(line))
        except Exception as error:
            if self._stop_on_error:
                raise
            print(error if getattr(error, "user_facing", False) else f"{type(error).__name__}: {error}")
        except KeyboardInterrupt:
            if self._stop_on_error:
                raise
            print(f"interrupted\n{self.session}")
        return False

    def default(self, line: str) -> None:
        raise SessionError(f"There is no command {line.split()[0]!r}; help lists the commands.")

    def names(self) -> list[str]:
        """Names of the commands, without those that stand for another one."""
        names = [name.removeprefix("do_") for name in self.get_names() if name.startswith("do_")]
        return sorted({*names} - {"EOF", "exit", "shell"})

    def do_help(self, name: str) -> None:
        """help [COMMAND]: describe a command, or all of them."""
        name = {"!": "shell"}.get(name, name)
        for command in [name] if name else [*self.names(), "shell"]:
            described = getattr(self, f"do_{command}", None)
            if described is None:
                self.default(command)
            print(inspect.getdoc(described))

    def do_reset(self, _: str) -> None:
        """reset: return to the initial state of the episode."""
        print(self.session.reset())

    def do_step(self, steps: str) -> None:
        """step [N]: execute N control steps (1), and query the policy where its chunk is used up."""
        print(self.session.step(_integer(steps or "1", "a number of steps")))

    def do_query(self, _: str) -> None:
        """query: query the policy about the present state and print its chunk; `step` executes it."""
        _print_chunk(self.session.query(), self.session)

    def do_act(self, action: str) -> None:
        """act X Y ...: execute an action of the suite in place of the policy's."""
        try:
            values = [float(part) for part in action.replace(",", " ").split()]
        except ValueError:
            raise SessionError(f"Wanted an action in numbers, such as act 0 0 1 0; got {action!r}.") from None
        print(self.session.act(values))

    def do_until(self, event: str) -> None:
        """until EVENT: execute steps until `query`, `end`, a number of steps, or an expression: until state[2] < 0.1"""
        print(self.session.run_until(event or "query"))

    def do_snapshot(self, name: str) -> None:
        """snapshot [NAME]: save the moment under a name, for restore."""
        name = name or f"step{self.session.steps}"
        self.saved[name] = self.session.snapshot()
        print(f"saved as {name}")

    def do_restore(self, name: str) -> None:
        """restore NAME | FILE: return to a moment of `snapshot` or of a file of `save`; `start` is where you began."""
        if name not in self.saved and not Path(name).is_file():
            raise SessionError(
                f"Moments are {', '.join(self.saved)}, and files that `save` wrote; got {name!r}."
            )
        print(self.session.restore(self.saved.get(name, name)))

    def do_fork(self, text: str) -> None:
        """fork [policy=P] [prompt=TEXT] [noise-seed=N] [replan-steps=N] [perturb=KIND=S] [move=THING=dx,dy,dz]
        [adapter=FILE:NAME]: play the rest of the episode with something changed, and return."""
        changes, policy, adapter = _changes(text)
        with contextlib.closing(self.session.fork(changes, policy=policy, adapter=adapter)) as fork:
            print(fork.run_until("end"))

    def do_prompt(self, text: str) -> None:
        """prompt [TEXT]: print the instruction, or give the policy another."""
        if text:
            self.session.set_prompt(text.strip("'\""))
        print(self.session.prompt)

    def do_inputs(self, _: str) -> None:
        """inputs: describe what the policy would be given now: the instruction, cameras and their orientation, and the
        state beside the statistics of the checkpoint."""
        for line in described_inputs(self.session):
            print(line)

    def do_explain(self, folder: str) -> None:
        """explain [FOLDER]: explain what the policy would answer now: attention, spread, sensitivity and distance from
        the training data; FOLDER takes the pictures."""
        from simloop.harness.debugging.explanation_files import write_pictures
        from simloop.harness.debugging.explanation_tables import explanation_grids
        from simloop.results.tables.typesetting import to_text

        explanation = self.session.explain()
        for grid in explanation_grids(explanation):
            print(to_text(grid))
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            files = write_pictures(explanation, Path(folder) / f"step-{self.session.steps:04d}")
            print(f"wrote {', '.join(file.name for file in files)} to {folder}")

    def do_state(self, _: str) -> None:
        """state: print the proprioceptive state, and the things that `move` can move."""
        for name, value in zip(self.session.env.spec.state_names, self.session.state, strict=True):
            print(f"{name:>28} {value: .4f}")
        print("movable:", ", ".join(self.session.env.movable()) or "nothing")

    def do_move(self, text: str) -> None:
        """move THING=dx,dy,dz: move a thing, in metres."""
        move = Move.parse(text)
        self.session.move(move)
        print(f"moved {move}")

    def do_render(self, text: str) -> None:
        """render [FILE [CAMERA ...]]: write to an image what the policy is given to see now, or cameras as the suite
        draws them."""
        file, *cameras = _words(text) or ["view.png"]
        self.session.render(*cameras).save(file)
        print(f"wrote {file}")

    def do_plot(self, file: str) -> None:
        """plot [FILE]: plot actions, states and rewards since the last reset or restore."""
        self.session.plot().save(file or "steps.png")
        print(f"wrote {file or 'steps.png'}")

    def do_save(self, file: str) -> None:
        """save FILE: save the moment (.npz), what the policy sees (.png), or a video of its cameras since the last
        reset or restore (.mp4)."""
        print(f"wrote {self.session.save(file)}")

    def do_shell(self, source: str) -> None:
        """! EXPRESSION: evaluate Python, with `session` and `np`."""
        try:
            print(eval(source, {"session": self.session, "np": np}))
        except Exception as error:
            raise SessionError(f"{source!r} raises {type(error).__name__}: {error}") from error

    def do_quit(self, _: str) -> bool:
        """quit: end the session."""
        return True

    do_EOF = do_exit = do_quit


def typed_lines(console: Console) -> Iterator[str]:
    """Lines typed at a terminal, with history and completion; or lines of a pipe."""
    if not sys.stdin.isatty():
        yield from echoed(sys.stdin, console)
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory

    home = simloop_home()
    home.mkdir(parents=True, exist_ok=True)
    terminal: PromptSession[str] = PromptSession(
        console.prompt,
        completer=_completer(console),
        history=FileHistory(str(home / "debug_history")),
    )
    while True:
        try:
            yield terminal.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _completer(console: Console) -> Completer:
    """Completes commands and their arguments."""
    from prompt_toolkit.completion import NestedCompleter, WordCompleter

    env = console.session.env
    options: dict[str, Completer | None] = dict.fromkeys(console.names())
    options |= {
        "help": WordCompleter(console.names()),
        "until": WordCompleter(["query", "end"]),
        "restore": WordCompleter(lambda: list(console.saved)),
        "render": WordCompleter(list(env.spec.cameras)),
        "move": WordCompleter(lambda: [f"{thing}=" for thing in env.movable()]),
        "fork": WordCompleter([f"{option}=" for option in FORK_OPTIONS]),
    }
    return NestedCompleter(options)


def echoed(lines: Iterable[str], console: Console) -> Iterator[str]:
    """Print each line behind the prompt, as if it were typed."""
    for line in lines:
        if line.strip():
            print(f"{console.prompt}{line.strip()}")
        yield line


def _integer(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SessionError(f"Wanted {what}; got {text!r}.") from None


def _words(text: str) -> list[str]:
    """Split a line as shells do."""
    try:
        return shlex.split(text)
    except ValueError:
        raise SessionError(f"A quotation mark is not closed in {text!r}.") from None


def _changes(text: str) -> tuple[Changes, str | None, AdapterFile | None]:
    """Parse the options of `fork`: changes, policy and adapter."""
    given = dict.fromkeys(FORK_OPTIONS, "")
    for option in _words(text):
        name, equals, value = option.removeprefix("--").partition("=")
        if name not in given or not equals:
            raise SessionError(f"Wanted {', '.join(f'{known}=...' for known in given)}; got {option!r}.")
        given[name] = value
    changes = Changes(
        prompt=given["prompt"] or None,
        noise_seed=_integer(given["noise-seed"], "a seed") if given["noise-seed"] else None,
        replan_steps=_integer(given["replan-steps"], "steps") if given["replan-steps"] else None,
        perturbation=Perturbation.parse(given["perturb"]) if given["perturb"] else None,
        moves=(Move.parse(given["move"]),) if given["move"] else (),
    )
    return changes, given["policy"] or None, AdapterFile.read(given["adapter"]) if given["adapter"] else None


def _print_chunk(chunk: Chunk, session: Session) -> None:
    if chunk.undecodable is not None:
        print(f"undecodable tokens: {chunk.undecodable}")
        return
    print(f"{len(chunk.actions)} actions in the convention of {session.policy.spec.name}:")
    print(chunk.actions)
    task = session.env.spec
    first = session.adapter.actions(task, chunk.actions)[0]
    print(
        "executed first:",
        ", ".join(f"{name} {x:.3f}" for name, x in zip(task.action_names, first, strict=True)),
    )
    print(session)
