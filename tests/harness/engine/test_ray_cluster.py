"""Connection to Ray."""

import socket

import pytest

from simloop.harness.engine.ray_cluster import RayConnection
from simloop.harness.engine.resources import EngineError, Resources


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-machine.invalid"])
def test_rejects_an_address_without_a_cluster(host, no_ray):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"{host}:{taken.getsockname()[1]}"
    with pytest.raises(EngineError, match=f"no Ray cluster at '{address}'.*ray start --head"):
        RayConnection(Resources(ray_address=address)).open()
