"""A recorded run, and the address under which its pages are served."""

import socket
import threading

import pytest
import uvicorn

from simloop.harness.viewing import shelf
from simloop.harness.viewing.app import application
from simloop.harness.viewing.shelf import Shelf
from tests.helpers.viewed_run import gripper_crosses_the_image, images, write_viewed_run


@pytest.fixture
def run(tmp_path):
    return write_viewed_run(tmp_path / "run")


@pytest.fixture
def served(run, monkeypatch):
    """Address of the list of runs, served."""
    monkeypatch.setattr(shelf, "recorded_images", images)
    monkeypatch.setattr(shelf, "recorded_trajectories", gripper_crosses_the_image)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(application(Shelf([run.parent]), "token"), log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/token/"
    server.should_exit = True
    thread.join(20)
