"""One websocket connection to a policy server, on which an answer belongs to the request before it or to none.

Servers do not say which request they answer. A connection on which anything else happened than one answer to one
request is therefore closed and never read again: an answer that is late, or comes twice, is not taken for another one.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from simloop.harness.remote.wire import MAX_BYTES
from simloop.policies.interface import PolicyError

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

Frame = bytes | str
OPEN_S = 10.0
"""Seconds for one try of the handshake."""
BETWEEN_TRIES_S = 0.25
REPORT_S = 5.0
REMEMBERED = 1024
"""Answers of a connection with which a new one is compared."""


class ConnectionLost(ConnectionError):
    """The connection ended, or did not bring the answer in time. The request may be sent again on another one."""


class ServerError(PolicyError):
    """The server reported an error, or answered with something else than its protocol says."""


class Connection:
    """An open connection; requests and answers alternate."""

    def __init__(self, socket: ClientConnection, address: str):
        self._socket = socket
        self.address = address
        self._answers: deque[int] = deque(maxlen=REMEMBERED)
        """Hashes of the latest answers."""

    def exchange(
        self,
        request: bytes,
        timeout_s: float,
        on_wait: Callable[[float], None] | None = None,
        *,
        may_repeat: bool = False,
    ) -> Frame:
        """Send a request and return the answer to it.

        Args:
          may_repeat: Take an answer that equals an earlier one to the last byte. It may be the earlier one, sent
            twice; another connection tells.
          on_wait: Called every `REPORT_S` seconds with those waited so far.

        Raises:
          ConnectionLost: If the connection ended, the answer did not come in time, or another frame came that may be
            a second answer to an earlier request.
        """
        self._require_silence()
        self.send(request)
        answer = self.receive(timeout_s, on_wait)
        if hash(answer) in self._answers and not may_repeat:
            self.close()  # Deterministic servers without timing repeat answers; they would log a lost connection.
            raise ConnectionLost(f"{self.address} sent an earlier answer again.")
        self._answers.append(hash(answer))
        return answer

    def receive(self, timeout_s: float, on_wait: Callable[[float], None] | None = None) -> Frame:
        """Return the next frame, such as the metadata that a server sends first.

        Raises:
          ConnectionLost: As `exchange`.
        """
        began = time.monotonic()
        while (left_s := began + timeout_s - time.monotonic()) > 0:
            try:
                return self._socket.recv(timeout=min(left_s, REPORT_S))
            except TimeoutError:
                if on_wait is not None:
                    on_wait(time.monotonic() - began)
            except Exception as error:  # websockets and the socket below it fail in many ways.
                self.abort()
                raise ConnectionLost(f"{self.address} ended the connection: {error}.") from error
        self.abort()
        raise ConnectionLost(f"{self.address} did not answer within {timeout_s:g} s.")

    def send(self, message: bytes) -> None:
        """Send a message that is not answered.

        Raises:
          ConnectionLost: If the connection has ended.
        """
        try:
            self._socket.send(message)
        except Exception as error:
            self.abort()
            raise ConnectionLost(f"{self.address} ended the connection: {error}.") from error

    def close(self) -> None:
        """End the connection in good order."""
        with contextlib.suppress(Exception):
            self._socket.close()

    def abort(self) -> None:
        """End the connection without waiting for the server, which may hang."""
        with contextlib.suppress(Exception):
            self._socket.socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(Exception):
            self._socket.close()

    def _require_silence(self) -> None:
        """Raise `ConnectionLost` if there is a frame that no request asked for, or the connection has ended."""
        try:
            self._socket.recv(timeout=0)
        except TimeoutError:
            return
        except Exception as error:
            self.abort()
            raise ConnectionLost(f"{self.address} ended the connection: {error}.") from error
        self.abort()
        raise ConnectionLost(f"{self.address} sent a frame that no request asked for.")


def connect(
    address: str,
    wait_s: float,
    api_key: str | None = None,
    on_wait: Callable[[float], None] | None = None,
    ended: Callable[[], bool] = lambda: False,
) -> Connection:
    """Connect to a server, which may still be starting.

    Args:
      address: `HOST:PORT`.
      wait_s: Seconds for which a server that does not listen is waited for.
      api_key: Sent as `Authorization: Api-Key KEY`.
      on_wait: Called with the seconds waited so far, between two tries.
      ended: Whether waiting has become pointless.

    Raises:
      ConnectionLost: If there is no server, or none that speaks this protocol.
    """
    from websockets.exceptions import InvalidHandshake
    from websockets.sync.client import connect as open_socket

    began = time.monotonic()
    headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
    while True:
        try:
            return Connection(
                open_socket(
                    f"ws://{address}",
                    additional_headers=headers,
                    compression=None,
                    max_size=MAX_BYTES,
                    open_timeout=OPEN_S,
                    close_timeout=1.0,
                    # Servers that compute in their event loop answer no pings meanwhile.
                    ping_interval=None,
                    proxy=None,
                ),
                address,
            )
        except InvalidHandshake as error:
            raise ConnectionLost(
                f"{address} refused the connection ({error}). Check the address, and SIMLOOP_API_KEY if the server "
                "asks for a token."
            ) from error
        except (OSError, TimeoutError, EOFError) as error:
            waited = time.monotonic() - began
            if waited > wait_s or ended():
                raise ConnectionLost(
                    f"No policy server answers at {address} ({error or type(error).__name__}), after "
                    f"{waited:.0f} s. Start it first, or check the address."
                ) from error
            if on_wait is not None:
                on_wait(waited)
        time.sleep(BETWEEN_TRIES_S)
