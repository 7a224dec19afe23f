"""Queries between two processes of one machine: images through shared memory, once, and a token through a socket.

    simulator                          memory of both                      policy worker
    query  ── its arrays are written into a block ──>  block  ── read where they lie ──>  rows of a batch
           ── which block, and the rest of the query ──> Unix socket ──>
           <── the reply ── Unix socket ──

A call between Ray actors costs 4 ms for the images of one query and about a millisecond of both processes'
time for anything at all; this costs a copy. The memory has no name and the socket no file, so that nothing is
left behind by a process that is killed, and whoever is left sees the other's death as the end of the connection.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import pickle
import socket
import struct
import threading
from dataclasses import dataclass

import numpy as np

from simloop.harness.rollout.loop import Reply
from simloop.policies.interface import Query

BLOCKS = 256  # Queries of one process that may wait at once; untouched blocks take no memory.
ALIGNMENT = 64
PAGE = mmap.PAGESIZE
HELLO = struct.Struct("<Q")
"""Bytes of a block, sent with the memory's descriptor."""
LENGTH = struct.Struct("<I")
READ_BYTES = 1 << 20
CREDENTIALS = struct.Struct("3i")
"""Process, user and group at the other end, as the kernel says it."""


class Damaged(ConnectionError):
    """What lay in the memory was not what had been written there; the query has to be asked again."""


class ChannelClosed(ConnectionError):
    """The policy worker at the other end has gone; its queries have to be asked again."""


@dataclass(frozen=True)
class Answered:
    """What comes back for a query."""

    number: int
    reply: Reply | None
    error: Exception | None
    spent_s: float
    """Between the query's arrival at the worker and this reply's leaving."""
    left: float
    """When it left, on the machine's clock."""


class Messages:
    """Messages of any length through a stream socket that never blocks: each end has one.

    Several threads may send; one reads.
    """

    def __init__(self, connection: socket.socket):
        connection.setblocking(False)
        self.socket = connection
        self._received = bytearray()
        self._unsent = bytearray()
        self._sending = threading.Lock()

    def send(self, message: bytes) -> bool:
        """Send as much as the other end has room for; whether all of it went, else `flush` when there is room.

        Raises:
          OSError: If the other end has gone.
        """
        data = LENGTH.pack(len(message)) + message
        with self._sending:
            sent = 0 if self._unsent else self._send(data)
            self._unsent += memoryview(data)[sent:]
            return not self._unsent

    def flush(self) -> bool:
        """Send what is left; whether all of it has gone now. Raises as `send` does."""
        with self._sending:
            del self._unsent[: self._send(self._unsent)]
            return not self._unsent

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Hang up; whoever sends after that gets an `OSError`."""
        with self._sending:
            self.socket.close()

    def receive(self) -> list[bytes]:
        """All messages that have come whole.

        Raises:
          OSError: If the other end has gone.
        """
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError("end of the connection")
        self._received += data
        messages, begin = [], 0
        while len(self._received) - begin >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._received, begin)
            end = begin + LENGTH.size + length
            if len(self._received) < end:
                break
            messages.append(bytes(memoryview(self._received)[begin + LENGTH.size : end]))
            begin = end
        del self._received[:begin]
        return messages


class ShmChannel:
    """A simulator's end, part of an event loop: any number of queries at once."""

    def __init__(self, connection: socket.socket, memory: mmap.mmap, block: int):
        self._messages = Messages(connection)
        self._memory = memory
        self._block = block
        self._free = list(range(len(memory) // block))
        self._open: dict[int, tuple[asyncio.Future[Answered], int | None]] = {}
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self._read)
        self.alive = True
        """Whether the worker is there."""
        self.bytes_sent = 0

    @classmethod
    async def open(cls, address: str, first: Query) -> ShmChannel:
        """Connect to the desk at `address`, with blocks that fit queries like the first.

        Raises:
          OSError: If there is no desk, or it is another user's.
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

    async def ask(self, query: Query) -> tuple[Reply, float, float]:
        """The reply, the seconds it spent at the worker, and when it left there (`time.perf_counter`).

        Raises:
          ChannelClosed: If the worker goes before it has answered.
          Exception: What answering raised.
        """
        if not self.alive:
            raise ChannelClosed("The policy worker is gone.")
        number, self._count = self._count, self._count + 1
        block = self._free.pop() if self._free else None
        head, sizes, check = self._write(query, block)
        future: asyncio.Future[Answered] = self._loop.create_future()
        self._open[number] = (future, block)
        try:
            if not self._messages.send(pickle.dumps((number, block, sizes, check, head), 5)):
                self._loop.add_writer(self._messages.socket.fileno(), self._flush)
        except OSError as error:
            self._hang_up(error)
        answered = await future
        if answered.error is not None:
            raise answered.error
        assert answered.reply is not None
        return answered.reply, answered.spent_s, answered.left

    def _write(self, query: Query, block: int | None) -> tuple[bytes, list[int], int]:
        """Put the query's arrays into the block; where they do not fit they travel with the rest."""
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(query, 5, buffer_callback=buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        if block is None or sum(aligned(len(view)) for view in raw) > self._block:
            return pickle.dumps(query, 5), [], 0
        begin = offset = block * self._block
        for view in raw:
            self._memory[offset : offset + len(view)] = view
            offset += aligned(len(view))
            self.bytes_sent += len(view)
        return head, [len(view) for view in raw], check_sum(self._memory, begin, offset)

    def _read(self) -> None:
        try:
            messages = self._messages.receive()
        except OSError as error:
            self._hang_up(error)
            return
        for message in messages:
            answered: Answered = pickle.loads(message)
            future, block = self._open.pop(answered.number)
            if block is not None:
                self._free.append(block)
            if not future.done():
                future.set_result(answered)

    def _flush(self) -> None:
        try:
            if self._messages.flush():
                self._loop.remove_writer(self._messages.socket.fileno())
        except OSError as error:
            self._hang_up(error)

    def _hang_up(self, error: OSError) -> None:
        for future, _ in self._open.values():
            if not future.done():
                future.set_exception(ChannelClosed(f"The policy worker is gone: {error}"))
        self._open.clear()
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._messages.socket.fileno())
            self._loop.remove_writer(self._messages.socket.fileno())
            self._messages.close()


def check_sum(memory: mmap.mmap | memoryview, begin: int, end: int) -> int:
    """A sum that any changed byte changes; of a few hundred kilobytes it takes hundredths of a millisecond."""
    words = np.frombuffer(memory, np.uint64, (end - begin) // 8, begin)
    return int(words.sum(dtype=np.uint64))


def require_own_user(connection: socket.socket) -> None:
    """Messages are pickles, which may do anything: they are taken from the same user only."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, user, _ = CREDENTIALS.unpack(credentials)
    if user != os.getuid():
        raise PermissionError(f"the process at the other end belongs to user {user}")


def _bytes_of(query: Query) -> int:
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(query, 5, buffer_callback=buffers.append)
    return sum(aligned(len(buffer.raw())) for buffer in buffers)


def aligned(size: int) -> int:
    """Bytes that an array of so many takes of a block."""
    return -(-size // ALIGNMENT) * ALIGNMENT
