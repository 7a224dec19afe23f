"""Ask a policy server of openpi's protocol over several connections.

    python openpi_clients.py HOST PORT CONNECTIONS SECONDS

Runs in any environment with openpi-client, or with simloop, and prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import numpy as np


def main(host: str, port: int, connections: int, seconds: float) -> None:
    """Ask for some seconds, and print queries per second and the median latency in ms."""
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    observation = {
        "observation/image": image,
        "observation/wrist_image": image,
        "observation/state": np.zeros(4),
        "prompt": "reach the goal",
    }
    clients = [_client(host, port) for _ in range(connections)]
    for client in clients:
        client.infer(observation)
    ends_at = time.monotonic() + seconds
    latencies: list[float] = []

    def ask(client: Any) -> None:
        while time.monotonic() < ends_at:
            began = time.perf_counter()
            client.infer(observation)
            latencies.append(time.perf_counter() - began)

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(latencies) / (time.perf_counter() - began)
    measured = {
        "queries": len(latencies) + connections,
        "rate": rate,
        "ms": 1e3 * float(np.median(latencies)),
        "client": type(clients[0]).__module__,
    }
    print(json.dumps(measured))


def _client(host: str, port: int) -> Any:
    try:
        from openpi_client.websocket_client_policy import WebsocketClientPolicy
    except ImportError:
        return _OwnClient(host, port)
    return WebsocketClientPolicy(host, port)


class _OwnClient:
    """The same requests with simloop's encoding."""

    def __init__(self, host: str, port: int):
        from simloop.harness.remote.connection import connect

        self._connection = connect(f"{host}:{port}", 10.0)
        self._connection.receive(10.0)

    def infer(self, observation: dict[str, Any]) -> Any:
        from simloop.harness.remote.wire import pack, unpack

        answer = self._connection.exchange(pack(observation), 60.0)
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return unpack(answer)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
