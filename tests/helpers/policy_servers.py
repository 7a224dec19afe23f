"""Policy servers of tests: openpi's protocol in a thread, with faults on demand."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.openpi_observation import RobotConvention
from simloop.harness.remote.policy import Deadlines, RemotePolicy
from simloop.harness.remote.protocols import OpenpiProtocol
from simloop.harness.remote.robots import ServedRobot
from simloop.harness.remote.wire import pack, unpack
from simloop.policies.interface import Chunk, Query
from simloop.policies.models.inference_plan import InferencePlan

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
    open: set[ServerConnection] = field(default_factory=set)

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
                server.shutdown()
                thread.join(10)

    def drop_all(self) -> None:
        """End all connections, as the death of the process does."""
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    def _handle(self, connection: ServerConnection) -> None:
        self.connections += 1
        self.open.add(connection)
        with contextlib.suppress(ConnectionClosed):
            self._exchange(connection)
        self.open.discard(connection)

    def _exchange(self, connection: ServerConnection) -> None:
        metadata = self.metadata
        connection.send(metadata if isinstance(metadata, bytes | str) else pack(metadata))
        for frame in connection:
            observation = unpack(frame)
            self.seen.append(observation)
            answer = self.infer(observation, connection)
            if answer is not None:
                connection.send(answer if isinstance(answer, bytes | str) else pack(answer))


POINT_ROBOT = ServedRobot("point", RobotConvention(state={"observation/state": 2}, action_size=2))
POINT_ADAPTER = Adapter("points", "point")
FAULTS = ("hang", "late", "drop", "kill", "twice", "twice, one late", "misshapen", "error")
ANSWER_S = 0.5
"""Deadline of clients of a faulty server."""


def point_actions(state: np.ndarray) -> np.ndarray:
    """A chunk that no other state gets."""
    return np.tile(np.tanh(-3 * np.asarray(state, np.float32)), (5, 1)).astype(np.float32)


class PointStatePolicy:
    """What `FaultyPointServer` serves, in this process."""

    spec = dataclasses.replace(POINT_ROBOT.spec("remote"), chunk_steps=5)

    def infer(self, queries: Sequence[Query]) -> list[Chunk]:
        return [Chunk(point_actions(query.state)) for query in queries]


def load_point_remote(address: str, name: str, plan: InferencePlan | None = None) -> RemotePolicy:
    """A client of `FaultyPointServer`, in a policy worker."""
    deadlines = Deadlines(start_s=30.0, first_s=30.0, answer_s=ANSWER_S)
    return RemotePolicy(
        POINT_ROBOT.spec("remote"), address, OpenpiProtocol(POINT_ROBOT), connections=4, deadlines=deadlines
    )


class FaultyPointServer(OpenpiServer):
    """Serves `point_actions`; breaks at `faults` random queries, and comes back when it was killed."""

    def __init__(self, faults: int, seed: int = 0):
        super().__init__(self._answer)
        self.left = faults
        self.happened: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._killed = threading.Event()

    @contextlib.contextmanager
    def surviving(self) -> Iterator[str]:
        """Serve, and listen again half a second after a kill."""
        ended = threading.Event()
        ready = threading.Event()

        def serve_again_and_again() -> None:
            while not ended.is_set():
                self._killed.clear()
                with self.running():
                    ready.set()
                    while not (self._killed.wait(0.05) or ended.is_set()):
                        pass
                    self.drop_all()
                time.sleep(0.5)

        thread = threading.Thread(target=serve_again_and_again, daemon=True)
        thread.start()
        ready.wait(10)
        try:
            yield f"127.0.0.1:{self.port}"
        finally:
            ended.set()
            thread.join(30)

    def _fault(self) -> str:
        with self._lock:
            if len(self.seen) < 2 or not self.left or self._random.random() > 0.4:
                return ""
            self.left -= 1
            fault = self._random.choice(FAULTS)
            self.happened[fault] += 1
            return fault

    def _answer(self, observation: dict[str, Any], connection: ServerConnection) -> Any:
        actions = point_actions(observation["observation/state"])
        answer, fault = pack({"actions": actions}), self._fault()
        if fault == "hang":
            time.sleep(3 * ANSWER_S)
            return None
        if fault == "late":
            time.sleep(1.2 * ANSWER_S)
        if fault in ("drop", "kill"):
            if fault == "kill":
                self._killed.set()
            connection.close()
            return None
        if fault == "twice":
            connection.send(answer)
        if fault == "twice, one late":
            threading.Timer(self._random.random() * 0.05, _send_quietly, (connection, answer)).start()
        if fault == "misshapen":
            return {"actions": actions[:3]}
        return "Traceback" if fault == "error" else answer


def _send_quietly(connection: ServerConnection, answer: bytes) -> None:
    with contextlib.suppress(Exception):
        connection.send(answer)
