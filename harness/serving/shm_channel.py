"""Shared-memory transport between an env actor and a policy worker of the same machine.

    env actor                              shared memory              policy worker
    query ── arrays are copied into a block ──> block ── read in place ──> rows of a batch
          ── block number and the rest of the query ──> Unix socket ──>
          <── reply ── Unix socket ──

A call between Ray actors takes 4 ms for the images of one query; this takes one copy. Memory and socket have no names
in the file system, so a killed process leaves nothing behind; its peer sees the end of the connection.
"""

from __future__ import annotations

import asyncio
import dataclasses
import mmap
import os
import pickle
import socket
import struct
import threading
import time

from simloop.harness.rollout.latency import Reply
from simloop.harness.serving.policy_client import PolicyClient, PolicyDisconnected
from simloop.policies.interface import Query

BLOCKS = 256  # Queries of one process that may wait at once; untouched blocks take no memory.
ALIGNMENT = 64
PAGE = mmap.PAGESIZE
HELLO = struct.Struct("<Q")
"""Bytes of a block, sent with the descriptor of the memory."""
HEADER = struct.Struct("<Id")
"""Length of a message in bytes, and `time.perf_counter` when it was sent, which processes of a machine share."""
READ_BYTES = 1 << 20
CREDENTIALS = struct.Struct("3i")
"""Process, user and group of the peer, as reported by the kernel."""


class Messages:
    """Messages of any length over a nonblocking stream socket, for either end.

    Several threads may send; one reads.
    """

    def __init__(self, connection: socket.socket):
        connection.setblocking(False)
        self.socket = connection
        self._received = bytearray()
        self._unsent = bytearray()
        self._sending = threading.Lock()

    def send(self, message: bytes) -> bool:
        """Send as much as the peer has room for; returns whether all of it went. `flush` sends the rest.

        Raises:
          OSError: If the peer is gone.
        """
        with self._sending:
            data = HEADER.pack(len(message), time.perf_counter()) + message
            sent = 0 if self._unsent else self._send(data)
            self._unsent += memoryview(data)[sent:]
            return not self._unsent

    def flush(self) -> bool:
        """Send what is left; returns whether nothing is left. Raises like `send`."""
        with self._sending:
            del self._unsent[: self._send(self._unsent)]
            return not self._unsent

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Close the socket; sending raises `OSError` from now on."""
        with self._sending:
            self.socket.close()

    def receive(self) -> list[tuple[float, bytes]]:
        """Return all messages that have arrived completely, each with the time when it was sent.

        Raises:
          OSError: If the peer is gone.
        """
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError("end of the connection")
        self._received += data
        messages, begin = [], 0
        while len(self._received) - begin >= HEADER.size:
            length, sent_at = HEADER.unpack_from(self._received, begin)
            end = begin + HEADER.size + length
            if len(self._received) < end:
                break
            messages.append((sent_at, bytes(memoryview(self._received)[begin + HEADER.size : end])))
            begin = end
        del self._received[:begin]
        return messages


class ShmChannel(PolicyClient):
    """The env actor's end, part of an event loop."""

    def __init__(self, connection: socket.socket, memory: mmap.mmap, block: int):
        self._messages = Messages(connection)
        self._memory = memory
        self._block = block
        self._free = list(range(len(memory) // block))
        self._pending: dict[int, tuple[asyncio.Future[Reply], int | None]] = {}
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self._read)
        self._bytes_sent = 0
        self.alive = True
        """Whether the policy worker is connected."""

    @property
    def bytes_sent(self) -> int:
        """Bytes of arrays that were copied into shared memory."""
        return self._bytes_sent

    @classmethod
    async def open(cls, address: str, first: Query) -> ShmChannel:
        """Connect to the server at `address`, with blocks that fit queries like `first`.

        Raises:
          OSError: If there is no server, or it belongs to another user.
        """
        block = PAGE + -(-_bytes_of(first) // PAGE) * PAGE
        memory_fd = os.memfd_create("simloop-queries")
        try:
            os.ftruncate(memory_fd, BLOCKS * block)
            memory = mmap.mmap(memory_fd, BLOCKS * block)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(address)
                require_own_user(connection)
                socket.send_fds(connection, [HELLO.pack(block)], [memory_fd])
            except BaseException:
                connection.close()
                raise
        finally:
            os.close(memory_fd)
        return cls(connection, memory, block)

    async def ask(self, query: Query) -> Reply:
        """Return the worker's reply. Raises as `PolicyClient.ask` does."""
        if not self.alive:
            raise PolicyDisconnected("The policy worker is gone.")
        number, self._count = self._count, self._count + 1
        block = self._free.pop() if self._free else None
        head, sizes = self._write(query, block)
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._pending[number] = (future, block)
        try:
            if not self._messages.send(pickle.dumps((number, block, sizes, head), 5)):
                self._loop.add_writer(self._messages.socket.fileno(), self._flush)
        except OSError as error:
            self._disconnect(error)
        return await future

    def _write(self, query: Query, block: int | None) -> tuple[bytes, list[int]]:
        """Copy the query's arrays into the block; arrays that do not fit stay in the message."""
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(query, 5, buffer_callback=buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        if block is None or sum(aligned(len(view)) for view in raw) > self._block:
            return pickle.dumps(query, 5), []
        offset = block * self._block
        for view in raw:
            self._memory[offset : offset + len(view)] = view
            offset += aligned(len(view))
            self._bytes_sent += len(view)
        return head, [len(view) for view in raw]

    def _read(self) -> None:
        try:
            messages = self._messages.receive()
        except OSError as error:
            self._disconnect(error)
            return
        for sent_at, message in messages:
            number, outcome = pickle.loads(message)
            future, block = self._pending.pop(number)
            if block is not None:
                self._free.append(block)
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(dataclasses.replace(outcome, arrived_at=sent_at))

    def _flush(self) -> None:
        try:
            if self._messages.flush():
                self._loop.remove_writer(self._messages.socket.fileno())
        except OSError as error:
            self._disconnect(error)

    def _disconnect(self, error: OSError) -> None:
        for future, _ in self._pending.values():
            if not future.done():
                future.set_exception(PolicyDisconnected(f"The policy worker is gone: {error}"))
        self._pending.clear()
        self.close()

    def close(self) -> None:
        """Disconnect. Closing twice is allowed."""
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._messages.socket.fileno())
            self._loop.remove_writer(self._messages.socket.fileno())
            self._messages.close()


def require_own_user(connection: socket.socket) -> None:
    """Raise `PermissionError` unless the peer runs as this user: messages are pickles, which may execute anything."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, user, _ = CREDENTIALS.unpack(credentials)
    if user != os.getuid():
        raise PermissionError(f"the process at the other end belongs to user {user}")


def _bytes_of(query: Query) -> int:
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(query, 5, buffer_callback=buffers.append)
    return sum(aligned(len(buffer.raw())) for buffer in buffers)


def aligned(size: int) -> int:
    """Return the bytes of a block that an array of `size` bytes takes."""
    return -(-size // ALIGNMENT) * ALIGNMENT
