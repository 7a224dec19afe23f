"""Run a command until it ends, or until standard input closes, which the death of the process that started this does.

Standard library alone: it is executed as a file, `python watched.py COMMAND ...`. The command inherits the file
descriptors that this process was given.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
END_S = 10.0
"""Seconds between asking the command to end and killing it."""


def main(command: list[str]) -> None:
    """Run the command; this process ends with its status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False, preexec_fn=_end_with_parent)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())

    def end_with_input() -> None:
        while os.read(0, 4096):
            pass
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()

    threading.Thread(target=end_with_input, daemon=True).start()
    status = child.wait()
    os._exit(status if status >= 0 else 128 - status)


def _end_with_parent() -> None:
    """Let the kernel end the command if this process is killed, as Ray does with the children of its workers."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
