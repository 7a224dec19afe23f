"""Serve runs until Ctrl-C is pressed."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable

import uvicorn

from simloop.harness.errors import SimloopError
from simloop.harness.viewing.app import application
from simloop.harness.viewing.shelf import Shelf


class PortError(SimloopError):
    """Raised if the address cannot be served."""


def serve(shelf: Shelf, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the pages of a shelf; prints their address first, and what it exposes unless it is loopback.

    Args:
      host: Address to listen at.
      port: Port; 0 for any that is free.

    Raises:
      PortError: If the address is not of this machine, or the port is taken.
    """
    token = secrets.token_urlsafe(16)
    with _listening(host, port) as listener:
        bound = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        runs = shelf.runs()
        alone = f"{next(iter(runs))}/" if len(runs) == 1 else ""
        if alone:
            shelf.warm(*runs.values())
        if not _is_loopback(host):
            folders = ", ".join(map(str, shelf.folders))
            say(
                f"Warning: port {bound} is open to other machines. Anyone with the URL can read the records and videos "
                f"in {folders}. The connection is not encrypted."
            )
        say(f"Open http://{shown}:{bound}/{token}/{alone} in a browser. Ctrl-C ends.")
        config = uvicorn.Config(
            application(shelf, token),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            return


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise PortError(
            f"Cannot listen at {host}, port {port}: {getattr(error, 'strerror', None) or error}. Choose another "
            "--port, or a --host of this machine."
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
