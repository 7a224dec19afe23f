"""A policy behind a server: sends queries over one connection or several, and takes no stale answer for a fresh one."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from simloop.harness.remote.connection import Connection, ConnectionLost, ServerError, connect
from simloop.harness.remote.protocols import Answer, OnWait, Server, ServerProtocol
from simloop.harness.remote.robots import IMAGE_HW
from simloop.policies.interface import (
    BatchedPolicy,
    Chunk,
    CompilationProgress,
    InferenceResult,
    PolicySpec,
    Query,
    require_fitting,
)

API_KEY = "SIMLOOP_API_KEY"
"""Environment variable with the token of a server that asks for one."""
MAX_SESSIONS = 256
TRIES = 3
"""Connections on which one query is sent before it is given up."""
RECONNECT_S = 20.0
"""Seconds for which a lost server is waited for."""


@dataclass(frozen=True)
class Deadlines:
    """How long a server is waited for, in seconds."""

    start_s: float = 300.0
    """Until it listens."""
    first_s: float = 1800.0
    """Until its first answer, for which it may load and compile."""
    answer_s: float = 60.0
    """Until any further answer."""


@dataclass(eq=False)
class _Session:
    """A connection and the episode that it last served."""

    connection: Connection
    server: Server
    episode: str | None = None
    opened_s: float = 0.0
    """Seconds that it took to open, until the first query on it."""


class RemotePolicy(BatchedPolicy):
    """A policy that another program serves. Its weights are not known.

    Args:
      connections: Queries that are under way at once; None for as many as the server says that it answers at once.
      ended: Whether the server cannot answer any more.
    """

    def __init__(
        self,
        spec: PolicySpec,
        address: str,
        protocol: ServerProtocol,
        *,
        connections: int | None = None,
        deadlines: Deadlines | None = None,
        ended: Callable[[], bool] = lambda: False,
    ):
        self.spec = spec
        self.address = address
        self.concurrent_calls = connections or 1
        self._connections = connections
        self._protocol = protocol
        self._deadlines = deadlines or Deadlines()
        self._ended = ended
        self._lock = threading.Lock()
        self._idle: list[_Session] = []
        self._server: Server | None = None
        self._chunk_steps: int | None = None

    def prepare(
        self, batch_size: int, on_progress: Callable[[CompilationProgress], None] | None = None
    ) -> float:
        """Wait for the server and for its answer to a blank query, which may compile; return the seconds this took.

        Raises:
          ConnectionLost: If the server does not answer.
          ServerError: If it answers with something else than its protocol says.
        """
        if self._server is not None:
            return 0.0
        began = time.perf_counter()

        def report(doing: str) -> OnWait:
            return on_progress and (lambda waited: on_progress(CompilationProgress(0, 1, (doing,), waited)))

        session = self._open(self._deadlines.start_s, report(f"waiting for a server at {self.address}"))
        self._server = session.server
        self._require_guidance(session.server)
        if self._connections is None:
            self.concurrent_calls = session.server.parallel
        query, first_s = self._blank_query(), self._deadlines.first_s
        if self._protocol.keeps_state(session.server):
            self._protocol.begin(session.connection, session.server, query, first_s)
        waiting = report(f"first answer of {self.address}")
        answer = self._protocol.ask(session.connection, session.server, query, first_s, waiting)
        self._require_same_steps(answer)
        session.connection.close()
        return time.perf_counter() - began

    def infer(self, queries: Sequence[Query], batch_size: int) -> InferenceResult:
        """Answer queries one after another; several threads may call at once.

        Raises:
          ConnectionLost: If the server did not answer on `TRIES` connections, or, for a server that keeps state, lost
            an episode in its middle.
          ServerError: If the server reports an error, or answers with something else than its protocol says.
        """
        require_fitting(queries, batch_size)
        results = [self._ask(query) for query in queries]
        times = {
            stage.name: sum(getattr(result, stage.name) for result in results)
            for stage in dataclasses.fields(InferenceResult)
            if stage.name.endswith("_s")
        }
        return InferenceResult([result.chunks[0] for result in results], **times)

    def device(self) -> str:
        """The server does not say."""
        return "policy server"

    def settings(self) -> dict[str, str]:
        """What is known of the policy, and whether its answers can be repeated."""
        own = self._server.own if self._server else {}
        repeatable = (
            "yes: the server takes the keys of queries" if own else "no: the server draws its own noise"
        )
        return {"protocol": self._protocol.name, "weights": "unknown", "repeatable": repeatable}

    def fingerprint(self) -> dict[str, str]:
        """Hash of what the server says about itself; those of its weights if it is `simloop serve`."""
        if self._server is None:
            return {}
        told = self._server.own.get("fingerprint")
        prints = {str(name): str(value) for name, value in told.items()} if isinstance(told, dict) else {}
        return prints or {"server_metadata": self._server.sha256}

    def close(self) -> None:
        """End the connections that are not in use."""
        with self._lock:
            sessions, self._idle = self._idle, []
        for session in sessions:
            session.connection.close()

    def _ask(self, query: Query) -> InferenceResult:
        lost_s = 0.0
        for tries_left in reversed(range(TRIES)):
            began = time.perf_counter()
            try:
                with self._session(query) as session:
                    sent = time.perf_counter()
                    opened_s, session.opened_s = session.opened_s, 0.0
                    answer = self._protocol.ask(
                        session.connection, session.server, query, self._deadlines.answer_s
                    )
                    arrived = time.perf_counter()
                    self._require_same_steps(answer)
                return _result(answer, lost_s + opened_s, arrived - sent)
            except ConnectionLost:
                lost_s += time.perf_counter() - began
                if not tries_left or self._loses_state(query) or self._ended():
                    raise
        raise AssertionError("unreachable")

    @contextmanager
    def _session(self, query: Query) -> Iterator[_Session]:
        """A connection for one query. It is kept for another only if the query was answered."""
        session = self._take(query.episode) or self._open(RECONNECT_S)
        keeps_state = self._protocol.keeps_state(session.server)
        try:
            if session.episode != query.episode or query.step == 0:
                if keeps_state and query.step > 0:
                    raise ConnectionLost(f"{self.address} has lost the state of the episode.")
                self._protocol.begin(session.connection, session.server, query, self._deadlines.answer_s)
            session.episode = query.episode
            yield session
        except BaseException:
            session.connection.abort()
            raise
        with self._lock:
            self._idle.append(session)
            surplus = self._idle.pop(0) if len(self._idle) > MAX_SESSIONS else None
        if surplus is not None:
            surplus.connection.close()

    def _take(self, episode: str) -> _Session | None:
        """Take the idle connection of the episode; any other only if its server keeps no state."""
        with self._lock:
            for session in self._idle:
                if session.episode == episode:
                    self._idle.remove(session)
                    return session
            if self._idle and not self._protocol.keeps_state(self._idle[-1].server):
                return self._idle.pop()
        return None

    def _open(self, wait_s: float, on_wait: OnWait = None) -> _Session:
        began = time.perf_counter()
        connection = connect(self.address, wait_s, os.environ.get(API_KEY), on_wait, self._ended)
        try:
            server = self._protocol.greet(connection, self._deadlines.answer_s)
        except BaseException:
            connection.abort()
            raise
        if self._server is not None and server.sha256 != self._server.sha256:
            connection.close()
            raise ServerError(
                f"The server at {self.address} has changed: it now describes itself otherwise than at the start of the "
                "run. Evaluate it in a run of its own."
            )
        return _Session(connection, server, opened_s=time.perf_counter() - began)

    def _loses_state(self, query: Query) -> bool:
        """Whether the query cannot be sent again because the server has seen the episode up to it."""
        return self._server is not None and self._protocol.keeps_state(self._server) and query.step > 0

    def _require_guidance(self, server: Server) -> None:
        """Raise `ServerError` if the policy was named with guidance that the server does not follow."""
        if missing := [method for method in self.spec.guidance if method not in server.guidance]:
            raise ServerError(
                f"{self.address} was named with guidance={','.join(self.spec.guidance)}, and does not follow "
                f"{', '.join(missing)}. openpi's servers follow none; simloop serve does with --guidance "
                f"{' '.join(self.spec.guidance)}."
            )

    def _require_same_steps(self, answer: Answer) -> None:
        """Raise `ServerError` if the chunk has another length than that of the first answer."""
        steps = len(answer.actions)
        if answer.undecodable is None and self._chunk_steps not in (None, steps):
            raise ServerError(
                f"The policy server answered with {steps} actions; its first answer had {self._chunk_steps}."
            )
        self._chunk_steps = self._chunk_steps or steps

    def _blank_query(self) -> Query:
        image = np.zeros((*IMAGE_HW, 3), np.uint8)
        state = np.zeros(self.spec.state_size or 0, np.float32)
        images = dict.fromkeys(self.spec.cameras, image)
        return Query("warm-up", "do nothing", 0, state, images, episode="warm-up")


def _result(answer: Answer, retry_s: float, call_s: float) -> InferenceResult:
    """Divide the time of a query: what the server reports is its, the rest was spent on the way."""
    infer_s = min(answer.infer_s if answer.infer_s is not None else call_s, call_s)
    queue_s = min(answer.queue_s, call_s - infer_s)
    if answer.undecodable is None:
        chunk = Chunk(answer.actions)
    else:
        chunk = Chunk(answer.actions[:0], answer.undecodable)
    return InferenceResult(
        [chunk],
        device_s=infer_s,
        queue_s=queue_s,
        transport_s=call_s - infer_s - queue_s,
        retry_s=retry_s,
    )
