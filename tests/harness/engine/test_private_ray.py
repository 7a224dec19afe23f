"""An own Ray instance is reachable from this machine alone, and only with its token."""

import os
import stat

import psutil
import pytest
import ray
from ray._private import services

from simloop.harness.engine import private_ray
from simloop.harness.engine.engine import Engine, EngineCallbacks
from simloop.harness.engine.private_ray import demands_token, private_settings, public_settings
from simloop.harness.engine.ray_cluster import RayConnection
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.plan import make_plan
from tests.harness.engine.test_faults import PROTOCOL, TASKS
from tests.helpers.faults import FAULTY, POINT_STUB

LOOPBACK = ("127.", "::1", "::ffff:127.")


@pytest.fixture(autouse=True)
def _restored(no_ray):
    yield
    public_settings()


def test_the_token_is_readable_by_its_user_alone():
    with private_settings() as options:
        file = os.environ["RAY_AUTH_TOKEN_PATH"]
        assert options == {"_node_ip_address": "127.0.0.1"}
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(file)).st_mode) == 0o700
    assert demands_token()


def test_settings_of_the_user_apply_to_clusters(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setattr(private_ray, "_before", {})
    with private_settings():
        assert os.environ["RAY_AUTH_MODE"] == "token"
    public_settings()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    (warning,) = RayConnection(Resources(ray_address="head:6379")).warnings()
    assert "head:6379 demands no token" in warning


def test_no_signal_to_the_group_of_the_driver_reaches_its_ray():
    with private_settings():
        started = services.start_ray_process(["sleep", "60"], "raylet", fate_share=False).process
    assert os.getpgid(started.pid) == started.pid
    started.kill()
    started.wait()
    assert isinstance(services.ConsolePopen, type)


def listening() -> list[tuple[str, str, int]]:
    """Name, address and port of every socket that this process or one below it listens on."""
    found = []
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            name, sockets = process.name(), process.net_connections("inet")
        except psutil.NoSuchProcess:
            continue
        found += [(name, s.laddr.ip, s.laddr.port) for s in sockets if s.status == psutil.CONN_LISTEN]
    return found


@pytest.mark.slow
def test_a_run_listens_on_no_interface_but_the_loopback():
    before = listening()
    plan = make_plan(["stub"], TASKS, PROTOCOL, 20, seed=8)
    found, notes = [], []
    policies = {"stub": POINT_STUB.spec()}
    with Engine(
        PROTOCOL, policies, 4, Resources(), None, EngineCallbacks(note=notes.append), FAULTY
    ) as engine:
        for _ in engine.results(plan.episodes):
            found += [socket for socket in listening() if socket not in before]
        assert ray.util.get_node_ip_address() == "127.0.0.1"
        assert demands_token()
    assert {"gcs_server", "raylet"} <= {name for name, _, _ in found}
    assert not [socket for socket in found if not socket[1].startswith(LOOPBACK)]
    assert not [note for note in notes if "token" in note]
