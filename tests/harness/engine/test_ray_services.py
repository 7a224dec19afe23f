"""An own Ray instance consists of its two native processes and the actors."""

import subprocess

import psutil
import pytest
import ray
from ray._private import services
from ray._private.node import Node

from simloop.harness.engine.ray_services import AGENTS, STAND_IN, without_services


@pytest.mark.usefixtures("shared_ray")
def test_no_service_runs_beside_an_own_instance():
    known = {"gcs_server", "raylet", "cat", STAND_IN[0].rpartition("/")[2]}
    (raylet,) = (one for one in psutil.Process().children() if one.name() == "raylet")
    for process in (*psutil.Process().children(), *raylet.children()):
        if process.status() == psutil.STATUS_ZOMBIE:
            continue
        title = " ".join(process.cmdline())
        if "resource_tracker" in title:  # Of Python, for shared memory of the tests.
            continue
        assert process.name() in known or "default_worker.py" in title or title.startswith("ray::"), title
        assert "Agent" not in title
    assert ray.nodes()[0]["Alive"]


def test_stand_ins_of_agents_last_until_their_input_is_closed():
    process = subprocess.Popen([*STAND_IN, "--disable-metrics-collection"], stdin=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.stdin.close()
    assert process.wait(10) == 0


def test_the_raylet_finds_the_ports_of_agents_that_do_not_listen(tmp_path, monkeypatch):
    started, node = [], "ab" * 28
    monkeypatch.setattr(services, "ConsolePopen", lambda command, **options: started.append(command))
    command = [
        "raylet",
        f"--session_dir={tmp_path}",
        f"--node_id={node}",
        *(f"{agent}=python a=b" for agent in AGENTS),
    ]
    with without_services():
        services.ConsolePopen(command)
        services.ConsolePopen(["gcs_server", "--session_dir=other"])
        assert Node.start_monitor is Node.start_api_server
    assert started[0][:3] == command[:3]
    assert [argument.split("=", 1)[1] for argument in started[0][3:]] == ['/bin/sh -c "exec cat" agent'] * 2
    assert started[1] == ["gcs_server", "--session_dir=other"]
    assert {file.read_text().strip() for file in tmp_path.glob(f"*_{node}")} == {"-1"}
    assert len(list(tmp_path.iterdir())) == 4
    assert Node.start_monitor is not Node.start_api_server
