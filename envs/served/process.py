"""A child process that ends with this one, with its output kept for error messages."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import psutil

from simloop.envs.served import watched
from simloop.untrusted import printable

LOG_LINES = 20
"""Last lines of the output that errors show."""

_LIVE: weakref.WeakSet[ChildProcess] = weakref.WeakSet()


class InterpreterError(RuntimeError):
    """An interpreter that cannot be executed."""

    user_facing = True


class ChildProcess:
    """A running command and everything that it starts. It ends with this process, however that ends."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        name: str = "process",
        variables: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ):
        """Start the command.

        Args:
          command: The interpreter, or what starts it, and its arguments.
          folder: Working folder.
          name: What the command is, in messages.
          variables: Environment variables beside those of this process, of which those that choose the packages of
            this interpreter are left out.
          descriptors: File descriptors that the command inherits.

        Raises:
          InterpreterError: If the command cannot be executed.
        """
        if shutil.which(command[0]) is None:
            raise InterpreterError(f"{command[0]} cannot be executed. Make its environment first.")
        self._name = name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-I", watched.__file__, *command],
            cwd=folder,
            env={**_own_environment(), **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=descriptors,
            start_new_session=True,
        )
        self._closed = False
        """Whether it was ended from here."""
        _LIVE.add(self)
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        """Process that watches the command, its parent."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether the process has ended by itself."""
        return self._process.poll() is not None

    def report(self) -> str:
        """Say whether the process has ended, and what it wrote last."""
        status = self._process.poll()
        state = "was running" if status is None or self._closed else f"had ended with status {status}"
        return f"The {self._name} {state}. Its last output:\n{self.log()}"

    def log(self) -> str:
        """Return the last lines of the output."""
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), 1 << 16, max(0, size - (1 << 16)))
        return printable("\n".join(tail.decode(errors="replace").splitlines()[-LOG_LINES:])) or "(no output)"

    def close(self, grace_s: float = 0.0) -> None:
        """End the process and everything that it started.

        Args:
          grace_s: Seconds in which it may end by itself.
        """
        atexit.unregister(self.close)
        _LIVE.discard(self)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self._closed = not self.ended()
        if self._process.poll() is None:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2 * watched.END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Usage(NamedTuple):
    """Memory and processor time of this process and of those that it started with `ChildProcess`."""

    rss_bytes: int
    cpu_s: float


def usage() -> Usage:
    """Measure this process and its children."""
    own = psutil.Process()
    times = own.cpu_times()
    rss_bytes, cpu_s = own.memory_info().rss, times.user + times.system
    if not _LIVE:
        return Usage(rss_bytes, cpu_s)
    cpu_s += times.children_user + times.children_system
    for process in own.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            rss_bytes += process.memory_info().rss
            cpu_s += sum(process.cpu_times()[:2])
    return Usage(rss_bytes, cpu_s)


def _own_environment() -> dict[str, str]:
    """The environment without what selects the interpreter and the packages of simloop, or holds its token."""
    others = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "SIMLOOP_API_KEY")
    return {name: value for name, value in os.environ.items() if name not in others}
