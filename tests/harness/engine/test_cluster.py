"""A cluster of several machines, played by several Ray nodes of this one."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from simloop.envs.registry import resolve_tasks
from simloop.harness.actors.factories import make_env
from simloop.harness.adapters.registry import find_adapter
from simloop.harness.engine import ray_cluster
from simloop.harness.engine.engine import Engine, EngineCallbacks
from simloop.harness.engine.ray_cluster import installed, require_alike_nodes
from simloop.harness.engine.resources import EngineError, Resources
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.policy_names import parse
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.loop import run_episode
from simloop.policies.presets import PRESETS
from tests.harness.engine.test_faults import PROTOCOL, TASKS, on_progress, undisturbed
from tests.helpers.faults import FAULTY, POINT_STUB

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture
def cluster():
    head = {"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_a_machine_that_is_lost_costs_only_the_episodes_under_way_on_it(cluster):
    doomed = cluster.add_node(num_cpus=1, object_store_memory=10**8)
    cluster.add_node(num_cpus=1, object_store_memory=10**8)
    plan = make_plan(["stub"], TASKS, PROTOCOL, 200, seed=8)
    notes, retried, results = [], [], {}
    callbacks = EngineCallbacks(note=notes.append, retry=lambda attempt, error: retried.append(error))
    resources = Resources(max_attempts=1, ray_address=cluster.address)
    with Engine(PROTOCOL, {"stub": POINT_STUB.spec()}, 4, resources, None, callbacks, FAULTY) as engine:
        nodes = set()
        for attempt, result in engine.results(plan.episodes):
            assert attempt.spec.id not in results
            results[attempt.spec.id] = result
            nodes |= {heartbeat.process.node for heartbeat in engine.healths()[0]}
            if len(results) == 100 and doomed is not None:
                cluster.remove_node(doomed, allow_graceful=False)
                doomed = None
    assert len(nodes) == 3, "every machine has simulated, by a process for each core"
    assert not retried, "nobody is charged for a machine"
    assert any("its machine was lost" in note for note in notes)
    assert {key: on_progress(result.played) for key, result in results.items()} == undisturbed(plan)


@contextlib.contextmanager
def machine_that_cannot_see(folder: Path, address: str, home: Path):
    """A node of the cluster whose processes find an empty folder instead, and which has the only GPU."""
    ray_start = [
        str(Path(sys.executable).with_name("ray")), "start", f"--address={address}", "--block", "--num-cpus=1",
        "--num-gpus=1", "--object-store-memory=100000000", "--dashboard-agent-listen-port=0",
        "--min-worker-port=0", "--max-worker-port=0",
    ]  # fmt: skip
    hidden = f'mount -t tmpfs none "{folder}" && exec "$@"'
    node = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", hidden, "sh", *ray_start],
        env={**os.environ, "SIMLOOP_HOME": str(home), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield node
    finally:
        node.terminate()
        node.communicate(timeout=120)


def may_unshare() -> bool:
    return (
        subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode
        == 0
    )


@pytest.mark.skipif(not may_unshare(), reason="needs a namespace of its own")
def test_a_checkpoint_that_only_the_driver_can_see_is_played_elsewhere_with_the_same_records(
    cluster, tmp_path
):
    checkpoint, home = tmp_path / "checkpoint", tmp_path / "home"
    shutil.copytree(PRESETS["pi0-tiny"].bundled, checkpoint)
    name = f"pi0-tiny@{checkpoint}"
    protocol = Protocol("metaworld", max_steps=20)
    plan = make_plan([name], list(resolve_tasks("metaworld", ["reach-v3"])), protocol, 2, seed=3)
    results = {}
    with machine_that_cannot_see(checkpoint, cluster.address, home) as node:
        wait_for_gpu(cluster.address, node)
        resources = Resources(ray_address=cluster.address)
        with Engine(protocol, {name: parse(name).spec()}, 1, resources, None) as engine:
            for attempt, result in engine.results(plan.episodes):
                assert result.played is not None, result.error
                results[attempt.spec.id] = on_progress(result.played)
            (worker,) = engine.healths()[1]
            assert worker.process.node != ray.get_runtime_context().get_node_id()
    (kept,) = (path for path in (home / "checkpoints").iterdir() if path.is_dir())
    assert {p.name for p in kept.rglob("*")} == {p.name for p in checkpoint.rglob("*")}

    policy, spec = parse(name).load(), parse(name).spec()
    policy.prepare(1)
    env = make_env("metaworld", "reach-v3", protocol.render)
    for episode in plan.episodes:
        played = run_episode(env, episode, policy, find_adapter("metaworld", spec), protocol)
        assert results[episode.id] == on_progress(played)


def wait_for_gpu(address: str, node: subprocess.Popen) -> None:
    ray.init(address=address, **ray_cluster.QUIETLY)
    deadline = time.monotonic() + 600
    while not ray.cluster_resources().get("GPU"):
        assert node.poll() is None, node.stdout.read()
        assert time.monotonic() < deadline, "the machine does not join"
        time.sleep(0.5)
    ray.shutdown()


def test_a_machine_with_other_software_is_refused_and_named(cluster):
    ray.init(address=cluster.address)
    require_alike_nodes(installed())
    with pytest.raises(EngineError, match=r"other software than this one: numpy: 0 -> "):
        require_alike_nodes({**installed(), "numpy": "0"})


def test_a_run_without_an_address_keeps_out_of_a_cluster_that_is_there(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    ray_cluster.start_ray(num_cpus=1)
    assert ray.get_runtime_context().gcs_address != cluster.address
    assert ray.cluster_resources()["CPU"] == 1
