"""Server of the shared-memory transport: one thread multiplexes all env actors of the machine.

The thread also encodes the queries it reads, and the thread that computed an answer sends it, so that a query wakes two
threads of a policy worker.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable

from simloop.harness.rollout.latency import Reply
from simloop.harness.serving.batcher import Done
from simloop.harness.serving.shm_channel import HELLO, Messages, aligned, require_own_user
from simloop.policies.interface import PolicyError, Query

Put = Callable[[Query, Done, float], None]
"""Takes a query, what to call with its outcome, and for how many seconds the query has waited for this server."""


class ShmServer:
    """Accept queries of env actors on this machine.

    Args:
      put: Called with every query in the server's thread; calls `done` with the outcome, from any thread.
    """

    def __init__(self, put: Put):
        self._take_in = put
        self._busy_until = 0.0
        """`time.perf_counter` when the thread was done with the previous query."""
        self._selector = selectors.DefaultSelector()
        self._wake_sender, self._wake_receiver = socket.socketpair()
        self._blocked: set[_Connection] = set()
        self._closed = False
        self.address = ""

    def open(self) -> str:
        """Listen, and return the address, which is valid on this machine only."""
        if not self.address:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.address = f"\0simloop-{os.getpid()}-{secrets.token_hex(8)}"
            listening.bind(self.address)
            listening.listen(1024)
            self._listening = listening
            self._selector.register(listening, selectors.EVENT_READ, self._accept)
            self._wake_receiver.setblocking(False)
            self._selector.register(self._wake_receiver, selectors.EVENT_READ, self._watch_blocked)
            threading.Thread(target=self._serve, name="shm-server", daemon=True).start()
        return self.address

    def close(self) -> None:
        """Stop the thread and close all connections."""
        self._closed = True
        self._wake()

    def _serve(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select():
                key.data()
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # The thread has ended already.
            self._wake_sender.send(b"\0")

    def _accept(self) -> None:
        accepted, _ = self._listening.accept()
        try:
            require_own_user(accepted)
        except OSError:
            accepted.close()
            return
        connection = _Connection(accepted, self._put, self._on_blocked)
        self._selector.register(accepted, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: _Connection) -> None:
        try:
            connection.read()
        except Exception:  # A malformed message closes its own connection only.
            self._disconnect(connection)

    def _put(self, query: Query, done: Done, sent_at: float) -> None:
        self._take_in(query, done, max(0.0, self._busy_until - sent_at))
        self._busy_until = time.perf_counter()

    def _disconnect(self, connection: _Connection) -> None:
        with contextlib.suppress(KeyError, ValueError):  # Disconnected already.
            self._selector.unregister(connection.messages.socket)
        connection.messages.close()

    def _on_blocked(self, connection: _Connection) -> None:
        """Keep replies that an env actor has no room for until it reads, without delaying other connections."""
        self._blocked.add(connection)
        self._wake()

    def _watch_blocked(self) -> None:
        self._wake_receiver.recv(4096)
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        while self._blocked:
            connection = self._blocked.pop()
            with contextlib.suppress(KeyError, ValueError):
                self._selector.modify(
                    connection.messages.socket, both, lambda connection=connection: self._flush(connection)
                )

    def _flush(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            if connection.messages.flush():
                self._selector.modify(
                    connection.messages.socket, selectors.EVENT_READ, lambda: self._read(connection)
                )
        self._read(connection)


class _Connection:
    """The connection of one env actor."""

    def __init__(
        self,
        connection: socket.socket,
        put: Callable[[Query, Done, float], None],
        on_blocked: Callable[[_Connection], None],
    ):
        self.messages = Messages(connection)
        self._put = put
        """Takes a query, what to call with its outcome, and when the query was sent."""
        self._on_blocked = on_blocked
        self._memory: memoryview | None = None
        self._block_bytes = 0

    def read(self) -> None:
        """Take in what has arrived. Raises `OSError` at the end of the connection."""
        if self._memory is None:
            self._memory, self._block_bytes = _receive_memory(self.messages.socket)
            return
        for sent_at, message in self.messages.receive():
            self._ask(message, sent_at, self._memory)

    def _ask(self, message: bytes, sent_at: float, memory: memoryview) -> None:
        number, block, sizes, head = pickle.loads(message)

        def done(outcome: Reply | Exception) -> None:
            reply = _pickled(number, outcome)
            with contextlib.suppress(OSError):  # The env actor is gone.
                if not self.messages.send(reply):
                    self._on_blocked(self)

        try:
            query = _read_query(head, sizes, memory, (block or 0) * self._block_bytes)
        except Exception as error:
            done(error)
            return
        self._put(query, done, sent_at)


def _read_query(head: bytes, sizes: list[int], memory: memoryview, offset: int) -> Query:
    """Unpickle a query whose arrays stay in shared memory."""
    views = []
    for size in sizes:
        views.append(memory[offset : offset + size].toreadonly())
        offset += aligned(size)
    return pickle.loads(head, buffers=views)


def _receive_memory(connection: socket.socket) -> tuple[memoryview, int]:
    hello, descriptors, _, _ = socket.recv_fds(connection, HELLO.size, 1)
    if len(hello) != HELLO.size or len(descriptors) != 1:
        raise OSError("the first message is not that of an env actor")
    (block,) = HELLO.unpack(hello)
    try:
        return memoryview(mmap.mmap(descriptors[0], os.fstat(descriptors[0]).st_size)), block
    finally:
        os.close(descriptors[0])


def _pickled(number: int, outcome: Reply | Exception) -> bytes:
    """Pickle the answer to a query; one that cannot be pickled becomes a `PolicyError` with its type and text."""
    try:
        message = pickle.dumps((number, outcome), 5)
        if isinstance(outcome, Exception) and not isinstance(pickle.loads(message)[1], Exception):
            raise pickle.PicklingError("another object would arrive")
    except Exception as error:
        text = f"{type(outcome).__name__}: {outcome if isinstance(outcome, Exception) else error}"
        return pickle.dumps((number, PolicyError(text)), 5)
    return message
