"""Policy servers of tests: openpi's protocol in a thread, with faults on demand."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.sync.server import Server, ServerConnection, serve

from simloop.harness.remote.wire import pack, unpack

Infer = Callable[[dict[str, Any], ServerConnection], Any]
"""Answers an observation: a message, bytes or text to send as they are, or None if it has sent what it wanted."""


def chunk_of(observation: dict[str, Any], steps: int = 5, size: int = 4) -> dict[str, Any]:
    """An answer that tells for which observation it was made."""
    return {"actions": np.full((steps, size), observation["observation/state"][0], np.float32)}


@dataclass
class OpenpiServer:
    """A server of openpi's protocol; every connection has a thread."""

    infer: Infer = lambda observation, connection: chunk_of(observation)
    metadata: Any = field(default_factory=dict)
    port: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve in a thread; yields the address."""
        with serve(self._handle, "127.0.0.1", self.port, compression=None, max_size=None) as server:
            self.port = server.socket.getsockname()[1]
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield f"127.0.0.1:{self.port}"
            finally:
                _end(server)
                thread.join(10)

    def _handle(self, connection: ServerConnection) -> None:
        self.connections += 1
        metadata = self.metadata
        connection.send(metadata if isinstance(metadata, bytes | str) else pack(metadata))
        for frame in connection:
            observation = unpack(frame)
            self.seen.append(observation)
            answer = self.infer(observation, connection)
            if answer is not None:
                connection.send(answer if isinstance(answer, bytes | str) else pack(answer))


def _end(server: Server) -> None:
    server.shutdown()
