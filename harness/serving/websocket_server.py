"""A websocket server in front of a policy: connections, limits, tokens, health and figures."""

from __future__ import annotations

import asyncio
import hmac
import http
import importlib.util
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simloop.harness.errors import SimloopError
from simloop.harness.remote.wire import MAX_BYTES
from simloop.harness.serving.policy_service import CLIENT_ERRORS, ClientSession, PolicyService
from simloop.policies.interface import QueryError
from simloop.untrusted import printable

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DRAIN_S = 30.0
"""Seconds that answers under way have when the server ends."""
CLOSE_S = 2.0
"""Seconds that a client has to take leave."""
ERROR_CHARS = 4_000


class ServeError(SimloopError):
    """A server that cannot be started."""


@dataclass(frozen=True)
class Listening:
    """Where and to whom a server answers."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 for any free port."""
    token: str | None = None
    """Clients send it as `Authorization: Api-Key TOKEN`; None to answer everyone who reaches the address."""
    max_connections: int = 256


class Figures:
    """Counters and latencies in the format of Prometheus; nothing without its library."""

    def __init__(self) -> None:
        self._registry: Any = None
        if importlib.util.find_spec("prometheus_client") is None:
            return
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = registry = CollectorRegistry()
        self._answers = Counter("simloop_serve_answers", "Messages answered.", ["outcome"], registry=registry)
        self._connections = Gauge("simloop_serve_connections", "Open connections.", registry=registry)
        self._seconds = Histogram("simloop_serve_seconds", "From a message to its answer.", registry=registry)

    def answered(self, outcome: str, seconds: float) -> None:
        """Count a message that was answered: `ok`, `refused` or `failed`."""
        if self._registry is not None:
            self._answers.labels(outcome).inc()
            self._seconds.observe(seconds)

    def connected(self, connections: int) -> None:
        """Note the number of open connections."""
        if self._registry is not None:
            self._connections.set(connections)

    def text(self) -> bytes | None:
        """Return all figures; None without the library."""
        if self._registry is None:
            return None
        from prometheus_client import generate_latest

        return bytes(generate_latest(self._registry))


class WebsocketServer:
    """Answer the messages of any number of clients with one service."""

    def __init__(self, service: PolicyService, listening: Listening):
        self._service = service
        self._listening = listening
        self._figures = Figures()
        self._sessions = 0
        self._open: set[ServerConnection] = set()
        self._answering = 0
        self._idle = asyncio.Event()
        self._ending = False

    async def run(self, stop: asyncio.Event, on_ready: Callable[[str], None] = lambda address: None) -> None:
        """Serve until `stop` is set, then answer what is under way and end.

        Args:
          on_ready: Called with `HOST:PORT` as soon as clients can connect.

        Raises:
          ServeError: If the address cannot be listened at.
        """
        from websockets.asyncio.server import serve
        from websockets.frames import CloseCode

        where = self._listening
        try:
            server = await serve(
                self._handle,
                where.host,
                where.port,
                process_request=self._admit,
                compression=None,
                max_size=MAX_BYTES,
                max_queue=1,
                close_timeout=CLOSE_S,
                origins=[None],  # Web pages send an origin; robots do not.
                server_header=None,
            )
        except OSError as error:
            raise ServeError(
                f"{where.host}:{where.port} cannot be listened at: {error.strerror}. Name another --port."
            ) from error
        host, port = next(iter(server.sockets)).getsockname()[:2]
        on_ready(f"{host}:{port}")
        await stop.wait()
        self._ending = True
        server.close(close_connections=False)
        if self._answering:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), DRAIN_S)
            except TimeoutError:
                logging.getLogger(__name__).warning("%d answers were not finished.", self._answering)
        await asyncio.gather(*(connection.close(CloseCode.GOING_AWAY) for connection in list(self._open)))
        await server.wait_closed()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer requests for health and figures; refuse clients without the token."""
        path = request.path.partition("?")[0]
        if path == "/healthz" or path == "/health":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        token = self._listening.token
        if token is not None and not _knows(request.headers.get("Authorization", ""), token):
            return connection.respond(
                http.HTTPStatus.UNAUTHORIZED,
                "Wanted the header 'Authorization: Api-Key TOKEN' with the server's token.\n",
            )
        if path == "/metrics":
            figures = self._figures.text()
            if figures is None:
                return connection.respond(
                    http.HTTPStatus.NOT_FOUND, "pip install prometheus-client for figures.\n"
                )
            return connection.respond(http.HTTPStatus.OK, figures.decode())
        if self._ending or len(self._open) >= self._listening.max_connections:
            return connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE, "No further connections are taken.\n"
            )
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        self._sessions += 1
        self._open.add(connection)
        self._figures.connected(len(self._open))
        session = ClientSession(self._sessions)
        try:
            if (greeting := self._service.greeting()) is not None:
                await connection.send(greeting)
            async for frame in connection:
                await self._exchange(connection, session, frame)
                if self._ending:
                    return
        except ConnectionClosed:
            pass
        finally:
            self._open.discard(connection)
            self._figures.connected(len(self._open))

    async def _exchange(
        self, connection: ServerConnection, session: ClientSession, frame: bytes | str
    ) -> None:
        """Answer one message, an error with what was wrong."""
        began = time.perf_counter()
        self._answering += 1
        try:
            outcome, answer = await self._answer(session, frame)
            if answer is not None:
                await connection.send(answer)
            self._figures.answered(outcome, time.perf_counter() - began)
        finally:
            self._answering -= 1
            if not self._answering:
                self._idle.set()

    async def _answer(self, session: ClientSession, frame: bytes | str) -> tuple[str, bytes | str | None]:
        try:
            if isinstance(frame, str):
                return "refused", self._service.error(
                    frame, "Messages are binary msgpack frames; got a text frame."
                )
            return "ok", await self._service.answer(session, frame)
        except (*CLIENT_ERRORS, QueryError) as error:
            return "refused", self._service.error(frame, printable(str(error))[:ERROR_CHARS])
        except Exception as error:
            logging.getLogger(__name__).exception("A query could not be answered.")
            text = printable(f"The policy failed: {type(error).__name__}: {error}")
            return "failed", self._service.error(frame, text[:ERROR_CHARS])


def _knows(header: str, token: str) -> bool:
    """Whether a header of a client holds the token; takes as long for a wrong one as for the right one."""
    kind, _, given = header.partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    return same and kind in ("Api-Key", "Bearer")


def require_protected(listening: Listening, *, without_token: bool) -> None:
    """Raise `ServeError` if an address that other machines reach would be served without a token."""
    if listening.host not in LOOPBACK and listening.token is None and not without_token:
        raise ServeError(
            f"At {listening.host} other machines reach the server, so that it wants a token: put one into the "
            "environment variable SIMLOOP_API_KEY, or say --no-token to answer everyone."
        )
