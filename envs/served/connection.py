"""The child process that simulates one environment, and the requests to it."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from simloop.envs.interface import RenderSettings, SimulationError
from simloop.envs.served import server
from simloop.envs.served.process import ChildProcess

START_S = 300.0
"""Seconds until the interpreter has to have imported the suite and made the environment."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that keep an environment to one core, as its neighbours have the others."""
END_S = 2.0
"""Seconds in which the process may end by itself."""


class ServedSuiteError(RuntimeError):
    """An error that the code of a served suite raised."""


class ServedSuiteLost(RuntimeError):
    """A child process that ended, or that did not start in time."""


@dataclass(frozen=True)
class Program:
    """A suite's file and the interpreter that executes it. Picklable."""

    interpreter: str
    """Path of the Python interpreter."""
    file: Path
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    """Further arguments of the file's `make`."""


class Connection:
    """A running child process, which answers one request at a time."""

    def __init__(self, program: Program, render: RenderSettings | None = None):
        """Start the process.

        Args:
          render: Size of the images; None if there are none.

        Raises:
          InterpreterError: If the interpreter cannot be executed.
        """
        self._program = program
        self._shape = (render.height, render.width, 3) if render else (1, 1, 3)
        here, there = socket.socketpair()
        memory = os.memfd_create("simloop-images")
        try:
            os.ftruncate(memory, int(np.prod(self._shape)))
            self._memory = mmap.mmap(memory, int(np.prod(self._shape)))
            self._child = ChildProcess(
                [
                    program.interpreter,
                    "-I",
                    "-u",
                    server.__file__,
                    str(there.fileno()),
                    str(memory),
                    str(program.file),
                ],
                program.file.parent,
                name="process of the suite",
                variables={name: os.environ.get(name, "1") for name in THREADS},
                descriptors=(there.fileno(), memory),
            )
        finally:
            there.close()
            os.close(memory)
        self._channel = server.Channel(here)
        self.state: Float32[np.ndarray, "s"] = np.zeros(0, np.float32)
        """Proprioceptive state after the last change of the simulation."""

    @property
    def pid(self) -> int:
        """Process that watches the one that simulates."""
        return self._child.pid

    def ask(self, name: str, *arguments: Any, within_s: float | None = None) -> Any:
        """Return the answer to a request.

        Args:
          name: A method of the environment, `describe` or `make`.
          within_s: Deadline; None to wait as long as the process runs.

        Raises:
          ServedSuiteError: If the suite's code raised an error.
          SimulationError: If it raised one of that name.
          ServedSuiteLost: If the process ended or exceeded the deadline; it is closed then.
        """
        try:
            self._channel.socket.settimeout(within_s)
            self._channel.send([name, arguments])
            reply = self._channel.receive()
        except TimeoutError as error:
            raise self._lost(f"did not answer {name!r} within {within_s:g} s", 0.0) from error
        except (EOFError, OSError) as error:
            raise self._lost(f"ended during {name!r}", END_S) from error
        if "error" not in reply:
            self.state = reply.get("state", self.state)
            return reply["value"]
        kind, text, trace = reply["error"]
        unstable = kind == SimulationError.__name__
        message = f"{self._program.file.name}, {name}: " + (text if unstable else f"{kind}: {text}")
        raised = SimulationError(message) if unstable else ServedSuiteError(message)
        raised.add_note(f"In {self._program.interpreter}:\n{trace}")
        raise raised

    def render(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        """Return the image of a camera. Raises as `ask` does."""
        self.ask("render", camera)
        return np.frombuffer(self._memory, np.uint8).reshape(self._shape).copy()

    def _lost(self, what: str, grace_s: float) -> ServedSuiteLost:
        self.close(grace_s)
        return ServedSuiteLost(
            f"The process of {self._program.file.name} in {self._program.interpreter} {what}. {self._child.report()}"
        )

    def close(self, grace_s: float = END_S) -> None:
        """End the process. Closing twice is allowed."""
        with contextlib.suppress(OSError):
            self._channel.socket.close()
        self._child.close(grace_s)
