"""Which transport the queries to a policy worker take."""

import asyncio
from types import SimpleNamespace

from simloop.harness.actors import worker_client
from simloop.harness.actors.worker_client import RayClient, WorkerClient


def test_a_client_without_shared_memory_asks_through_ray_and_says_why(monkeypatch):
    async def full(server, query):
        raise OSError(28, "No space left on device")

    async def address():
        return SimpleNamespace(node="here", shm_server="")

    monkeypatch.setattr(worker_client.ShmChannel, "open", full)
    monkeypatch.setattr(worker_client, "this_node", lambda: "here")
    client = WorkerClient(SimpleNamespace(address=SimpleNamespace(remote=address)))
    assert client.without_shared_memory == ""
    assert isinstance(asyncio.run(client._connect(None)), RayClient)
    assert "No space left on device" in client.without_shared_memory
