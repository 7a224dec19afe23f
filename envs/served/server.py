"""Serve one environment to the process that started this one.

Executed by path, `python -I server.py SOCKET MEMORY FILE`, in an interpreter that needs nothing but NumPy; Python 3.10
and later. Requests and replies pass over the socket, images through the shared memory. FILE, the suite, imports
nothing of simloop; docs/extending.md says what it holds.

A message is a JSON object, followed by the arrays in it: `{"__array__": [dtype, shape]}` stands for the next one.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import math
import mmap
import os
import socket
import struct
import sys
import traceback
from types import ModuleType
from typing import Any

import numpy as np

SIZES = struct.Struct("<QQ")
"""Bytes of the JSON text, and of all arrays."""
MAX_BYTES = 1 << 30
KINDS = "biuf"
"""Kinds of NumPy dtypes that may be sent: booleans, integers and real numbers."""
REQUIRED = ("reset", "step", "state", "snapshot", "render")
OPTIONAL = ("instruction", "privileged", "save", "restore", "movable", "move", "scenes")
CHANGES = ("reset", "step", "restore", "move")
"""Methods whose replies hold the new state as well, which saves a request."""
RETURNED = ("step", "snapshot", "instruction", "privileged", "save", "movable", "scenes")
"""Methods whose results are part of the reply."""


class Channel:
    """One end of the connection."""

    def __init__(self, connection: socket.socket):
        self.socket = connection
        self._encoder = json.JSONEncoder(default=self._set_aside)
        self._decoder = json.JSONDecoder(object_hook=self._inserted)
        self._arrays: list[bytes] = []
        self._body = memoryview(b"")

    def send(self, message: object) -> None:
        """Send a message of plain values and arrays.

        Raises:
          TypeError: If it holds anything else; nothing is sent then.
        """
        self._arrays = []
        text = self._encoder.encode(message).encode()
        body = b"".join(self._arrays)
        self.socket.sendall(SIZES.pack(len(text), len(body)) + text + body)

    def receive(self) -> Any:
        """Receive a message, with arrays of its own.

        Raises:
          EOFError: At the end of the connection.
        """
        text_size, body_size = SIZES.unpack(self._exactly(SIZES.size))
        if text_size + body_size > MAX_BYTES:
            raise ValueError(f"A message has at most {MAX_BYTES} bytes; got {text_size + body_size}.")
        received = memoryview(self._exactly(text_size + body_size))
        self._body = received[text_size:]
        return self._decoder.decode(str(received[:text_size], "utf-8"))

    def _set_aside(self, value: object) -> object:
        if isinstance(value, np.generic):
            return value.item()
        if not isinstance(value, np.ndarray) or value.dtype.kind not in KINDS:
            raise TypeError(f"Numbers, text, lists, dicts and arrays of numbers can be sent; got {value!r}.")
        self._arrays.append(value.tobytes())
        return {"__array__": [value.dtype.str, value.shape]}

    def _inserted(self, value: dict[str, Any]) -> Any:
        if "__array__" not in value:
            return value
        dtype, shape = np.dtype(value["__array__"][0]), value["__array__"][1]
        if dtype.kind not in KINDS:
            raise ValueError(f"Arrays hold numbers; got {dtype}.")
        size = math.prod(shape) * dtype.itemsize
        array = np.frombuffer(self._body[:size], dtype).reshape(shape).copy()
        self._body = self._body[size:]
        return array

    def _exactly(self, size: int) -> bytearray:
        received = bytearray(size)
        rest = memoryview(received)
        while rest:
            count = self.socket.recv_into(rest)
            if not count:
                raise EOFError("end of the connection")
            rest = rest[count:]
        return received


class Server:
    """Answers requests about the suite of a file, and about one environment of it."""

    def __init__(self, path: str, memory: int):
        self._suite = _executed(path)
        self._memory = memory
        self._env: Any = None

    def answer(self, name: str, arguments: list[Any]) -> dict[str, Any]:
        """Answer a request.

        Raises:
          Exception: Any error of the suite.
        """
        if name in ("describe", "make"):
            return {"value": getattr(self, name)(*arguments)}
        if name not in (*REQUIRED, *OPTIONAL):
            raise AttributeError(f"There is no request {name!r}.")
        value = getattr(self._env, name)(*arguments)
        if name == "render":
            self._show(value)
        reply = {"value": value if name in RETURNED else None}
        return {**reply, "state": np.asarray(self._env.state(), np.float32)} if name in CHANGES else reply

    def describe(self) -> dict[str, Any]:
        """Return the tasks and groups of the suite, and the versions that it consists of."""
        tasks = self._suite.TASKS
        packages = getattr(self._suite, "PACKAGES", ())
        return {
            "name": getattr(self._suite, "NAME", os.path.basename(str(self._suite.__file__))[:-3]),
            "tasks": tasks,
            "groups": getattr(self._suite, "GROUPS", {"all": list(tasks)}),
            "versions": {name: importlib.metadata.version(name) for name in packages},
        }

    def make(self, task: str, height: int, width: int, profile: str, arguments: dict[str, Any]) -> list[str]:
        """Make the environment and the memory of its images; returns which of the optional methods it has."""
        self._env = self._suite.make(task, height=height, width=width, profile=profile, **arguments)
        missing = [name for name in REQUIRED if not hasattr(self._env, name)]
        if missing:
            raise TypeError(f"The environment of {task} lacks {', '.join(missing)}.")
        shape = (height, width, 3)
        self._shown = np.frombuffer(mmap.mmap(self._memory, height * width * 3), np.uint8).reshape(shape)
        return [name for name in OPTIONAL if hasattr(self._env, name)]

    def _show(self, image: Any) -> None:
        if np.shape(image) != self._shown.shape or image.dtype != np.uint8:
            kind = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else repr(image)
            raise TypeError(f"render returned {kind}; wanted uint8 of shape {self._shown.shape}.")
        self._shown[...] = image

    def close(self) -> None:
        """Close the environment, where it can be closed."""
        getattr(self._env, "close", lambda: None)()


def _executed(path: str) -> ModuleType:
    sys.path.insert(0, os.path.dirname(path))  # For modules beside the file.
    spec = importlib.util.spec_from_file_location("simloop_served_suite", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(connection: socket.socket, memory: int, path: str) -> None:
    """Answer requests until the connection ends."""
    server: Server | None = None
    channel = Channel(connection)
    with contextlib.suppress(EOFError, OSError):
        while True:
            name, arguments = channel.receive()
            try:
                server = server or Server(path, memory)
                channel.send(server.answer(name, arguments))
            except (Exception, SystemExit) as error:
                channel.send({"error": [type(error).__name__, str(error), traceback.format_exc()]})
    if server is not None:
        server.close()


if __name__ == "__main__":
    status = 1
    try:
        main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), sys.argv[3])
        status = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Threads and exit functions of simulators do not keep the process.
