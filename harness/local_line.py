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
import contextlib
import mmap
import os
import pickle
import secrets
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.rollout import Reply
from policies.interface import Query

BLOCKS = 256  # Queries of one process that may wait at once; untouched blocks take no memory.
ALIGNMENT = 64
PAGE = mmap.PAGESIZE
HELLO = struct.Struct("<Q")
"""Bytes of a block, sent with the memory's descriptor."""
LENGTH = struct.Struct("<I")
CREDENTIALS = struct.Struct("3i")
"""Process, user and group at the other end, as the kernel says it."""


class Damaged(ConnectionError):
    """What lay in the memory was not what had been written there; the query has to be asked again."""


class LineCut(ConnectionError):
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


class LocalLine:
    """A simulator's end: any number of queries at once."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, memory: mmap.mmap, block: int
    ):
        self._reader = reader
        self._writer = writer
        self._memory = memory
        self._block = block
        self._free = list(range(len(memory) // block))
        self._open: dict[int, tuple[asyncio.Future[Answered], int | None]] = {}
        self._count = 0
        self._listening = asyncio.create_task(self._listen())
        self.bytes_sent = 0

    @classmethod
    async def open(cls, address: str, first: Query) -> LocalLine:
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
                _require_own_user(connection)
                socket.send_fds(connection, [HELLO.pack(block)], [memory_fd])
                connection.setblocking(False)
                reader, writer = await asyncio.open_unix_connection(sock=connection)
            except BaseException:
                connection.close()
                raise
        finally:
            os.close(memory_fd)
        return cls(reader, writer, memory, block)

    @property
    def alive(self) -> bool:
        """Whether the worker is there."""
        return not self._listening.done()

    async def ask(self, query: Query) -> tuple[Reply, float, float]:
        """The reply, the seconds it spent at the worker, and when it left there (`time.perf_counter`).

        Raises:
          LineCut: If the worker goes before it has answered.
          Exception: What answering raised.
        """
        if not self.alive:
            raise LineCut("The policy worker is gone.")
        number, self._count = self._count, self._count + 1
        block = self._free.pop() if self._free else None
        head, sizes, check = self._write(query, block)
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._open[number] = (future, block)
        message = pickle.dumps((number, block, sizes, check, head), 5)
        try:
            self._writer.write(LENGTH.pack(len(message)) + message)
        except OSError as error:
            raise LineCut(str(error)) from error
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
        if block is None or sum(_aligned(len(view)) for view in raw) > self._block:
            return pickle.dumps(query, 5), [], 0
        begin = offset = block * self._block
        for view in raw:
            self._memory[offset : offset + len(view)] = view
            offset += _aligned(len(view))
            self.bytes_sent += len(view)
        return head, [len(view) for view in raw], _check(self._memory, begin, offset)

    async def _listen(self) -> None:
        try:
            while True:
                answered: Answered = pickle.loads(await _read_message(self._reader))
                future, block = self._open.pop(answered.number)
                if block is not None:
                    self._free.append(block)
                if not future.done():
                    future.set_result(answered)
        except (OSError, EOFError, asyncio.IncompleteReadError) as error:
            for future, _ in self._open.values():
                if not future.done():
                    future.set_exception(LineCut(f"The policy worker is gone: {error}"))
            self._open.clear()
        finally:
            self._writer.close()

    async def close(self) -> None:
        """Hang up."""
        self._listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listening


class Desk:
    """A worker's end: where the simulators of this machine call."""

    def __init__(self, ask: Callable[[Query], Awaitable[Reply]]):
        self._ask = ask
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None
        self.address = ""

    async def open(self) -> str:
        """Begin to listen; returns the address, which means something on this machine alone."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.address = f"\0simloop-{os.getpid()}-{secrets.token_hex(8)}"
            self._socket.bind(self.address)
            self._socket.listen(1024)
            self._socket.setblocking(False)
            self._keep(self._welcome(self._socket))
        return self.address

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _welcome(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listening)
            self._keep(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        try:
            _require_own_user(connection)
            memory, block = await asyncio.to_thread(_receive_memory, connection)
            connection.setblocking(False)
            reader, writer = await asyncio.open_unix_connection(sock=connection)
        except OSError as error:
            print(f"A simulator could not be connected: {error}")
            connection.close()
            return
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                message = await _read_message(reader)
                self._keep(self._answer(message, memory, block, writer))
        writer.close()

    async def _answer(
        self, message: bytes, memory: memoryview, block_bytes: int, writer: asyncio.StreamWriter
    ) -> None:
        arrived = time.perf_counter()
        number, block, sizes, check, head = pickle.loads(message)
        reply, failure = None, None
        try:
            begin = (block or 0) * block_bytes
            end = begin + sum(map(_aligned, sizes))
            if _check(memory, begin, end) != check:
                raise Damaged("The images of a query were changed on their way.")
            reply = await self._ask(_read_query(head, sizes, memory, begin))
        except Exception as error:
            failure = _portable(error)
        left = time.perf_counter()
        answer = pickle.dumps(Answered(number, reply, failure, left - arrived, left), 5)
        if not writer.is_closing():
            writer.write(LENGTH.pack(len(answer)) + answer)


def _read_query(head: bytes, sizes: list[int], memory: memoryview, offset: int) -> Query:
    """The query, its arrays where they lie."""
    views = []
    for size in sizes:
        views.append(memory[offset : offset + size].toreadonly())
        offset += _aligned(size)
    return pickle.loads(head, buffers=views)


def _check(memory: mmap.mmap | memoryview, begin: int, end: int) -> int:
    """A sum that any changed byte changes; of a few hundred kilobytes it takes hundredths of a millisecond."""
    words = np.frombuffer(memory, np.uint64, (end - begin) // 8, begin)
    return int(words.sum(dtype=np.uint64))


def _receive_memory(connection: socket.socket) -> tuple[memoryview, int]:
    connection.settimeout(10.0)
    hello, descriptors, _, _ = socket.recv_fds(connection, HELLO.size, 1)
    if len(hello) != HELLO.size or len(descriptors) != 1:
        raise OSError("it did not say hello as simulators do")
    (block,) = HELLO.unpack(hello)
    try:
        return memoryview(mmap.mmap(descriptors[0], os.fstat(descriptors[0]).st_size)), block
    finally:
        os.close(descriptors[0])


def _require_own_user(connection: socket.socket) -> None:
    """Messages are pickles, which may do anything: they are taken from the same user only."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, user, _ = CREDENTIALS.unpack(credentials)
    if user != os.getuid():
        raise PermissionError(f"the process at the other end belongs to user {user}")


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return await reader.readexactly(length)


def _bytes_of(query: Query) -> int:
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(query, 5, buffer_callback=buffers.append)
    return sum(_aligned(len(buffer.raw())) for buffer in buffers)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _portable(error: Exception) -> Exception:
    """The error itself where it can travel, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
