"""A policy worker's end of the lines of its machine (`simloop.harness.serving.shm_channel`): one thread reads what all of them send.

It also encodes what it reads, and whoever has computed an answer sends it off: a query wakes two threads of a worker.
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
import traceback
from collections.abc import Callable

from simloop.harness.rollout.loop import Reply
from simloop.harness.serving.shm_channel import (
    HELLO,
    Answered,
    Damaged,
    Messages,
    aligned,
    check_sum,
    require_own_user,
)
from simloop.policies.interface import Query

Done = Callable[[Reply | Exception], None]
Put = Callable[[Query, Done], None]


class ShmServer:
    """Where the simulators of this machine call.

    Args:
      put: Is given every query, in the thread of the desk, and has its outcome told to `done`, from any thread.
    """

    def __init__(self, put: Put):
        self._put = put
        self._selector = selectors.DefaultSelector()
        self._wakes, self._woken = socket.socketpair()
        self._stuck: set[_Caller] = set()
        self._closed = False
        self.address = ""

    def open(self) -> str:
        """Begin to listen; returns the address, which means something on this machine alone."""
        if not self.address:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.address = f"\0simloop-{os.getpid()}-{secrets.token_hex(8)}"
            listening.bind(self.address)
            listening.listen(1024)
            self._listening = listening
            self._selector.register(listening, selectors.EVENT_READ, self._welcome)
            self._woken.setblocking(False)
            self._selector.register(self._woken, selectors.EVENT_READ, self._look)
            threading.Thread(target=self._serve, name="desk", daemon=True).start()
        return self.address

    def close(self) -> None:
        """Hang up on all."""
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
        with contextlib.suppress(OSError):  # Its thread has seen that it is to end, and has gone.
            self._wakes.send(b"\0")

    def _welcome(self) -> None:
        connection, _ = self._listening.accept()
        try:
            require_own_user(connection)
        except OSError as error:
            print(f"A simulator could not be connected: {error}")
            connection.close()
            return
        caller = _Caller(connection, self._put, self._is_stuck)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(caller))

    def _hear(self, caller: _Caller) -> None:
        try:
            caller.read()
        except OSError as error:
            if not caller.known:
                print(f"A simulator could not be connected: {error}")
            self._hang_up(caller)
        except Exception:  # Whatever one of them sends, the others are served.
            traceback.print_exc()
            self._hang_up(caller)

    def _hang_up(self, caller: _Caller) -> None:
        with contextlib.suppress(KeyError, ValueError):  # Already.
            self._selector.unregister(caller.messages.socket)
        caller.messages.close()

    def _is_stuck(self, caller: _Caller) -> None:
        """A simulator does not read its answers; they wait without holding up those of others."""
        self._stuck.add(caller)
        self._wake()

    def _look(self) -> None:
        self._woken.recv(4096)
        while self._stuck:
            caller = self._stuck.pop()
            with contextlib.suppress(KeyError, ValueError):
                both = selectors.EVENT_READ | selectors.EVENT_WRITE
                self._selector.modify(
                    caller.messages.socket, both, lambda caller=caller: self._serve_stuck(caller)
                )

    def _serve_stuck(self, caller: _Caller) -> None:
        with contextlib.suppress(OSError):
            if caller.messages.flush():
                self._selector.modify(
                    caller.messages.socket, selectors.EVENT_READ, lambda: self._hear(caller)
                )
        self._hear(caller)


class _Caller:
    """One simulator's process."""

    def __init__(self, connection: socket.socket, put: Put, stuck: Callable[[_Caller], None]):
        self.messages = Messages(connection)
        self._put = put
        self._stuck = stuck
        self._memory: memoryview | None = None
        self._block_bytes = 0

    @property
    def known(self) -> bool:
        """Whether it has shown its memory."""
        return self._memory is not None

    def read(self) -> None:
        """Take in what has come. Raises `OSError` if there will be no more."""
        if self._memory is None:
            self._memory, self._block_bytes = _receive_memory(self.messages.socket)
            return
        for message in self.messages.receive():
            self._ask(message, time.perf_counter())

    def _ask(self, message: bytes, arrived: float) -> None:
        assert self._memory is not None
        number, block, sizes, check, head = pickle.loads(message)

        def done(outcome: Reply | Exception) -> None:
            left = time.perf_counter()
            if isinstance(outcome, Exception):
                answered = Answered(number, None, _portable(outcome), left - arrived, left)
            else:
                answered = Answered(number, outcome, None, left - arrived, left)
            self._tell(answered)

        begin = (block or 0) * self._block_bytes
        end = begin + sum(map(aligned, sizes))
        try:
            if check_sum(self._memory, begin, end) != check:
                raise Damaged("The images of a query were changed on their way.")
            query = _read_query(head, sizes, self._memory, begin)
        except Exception as error:
            done(error)
            return
        self._put(query, done)

    def _tell(self, answered: Answered) -> None:
        with contextlib.suppress(OSError):  # Who asked has gone.
            if not self.messages.send(pickle.dumps(answered, 5)):
                self._stuck(self)


def _read_query(head: bytes, sizes: list[int], memory: memoryview, offset: int) -> Query:
    """The query, its arrays where they lie."""
    views = []
    for size in sizes:
        views.append(memory[offset : offset + size].toreadonly())
        offset += aligned(size)
    return pickle.loads(head, buffers=views)


def _receive_memory(connection: socket.socket) -> tuple[memoryview, int]:
    hello, descriptors, _, _ = socket.recv_fds(connection, HELLO.size, 1)
    if len(hello) != HELLO.size or len(descriptors) != 1:
        raise OSError("it did not say hello as simulators do")
    (block,) = HELLO.unpack(hello)
    try:
        return memoryview(mmap.mmap(descriptors[0], os.fstat(descriptors[0]).st_size)), block
    finally:
        os.close(descriptors[0])


def _portable(error: Exception) -> Exception:
    """The error itself where it can travel, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
