"""A cluster, simulated by several Ray nodes on this machine."""

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
from simloop.harness.engine.ray_cluster import installed_versions, require_same_software
from simloop.harness.engine.resources import EngineError, Resources
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.policy_names import parse
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.loop import run_episode
from simloop.policies.presets import PRESETS
from tests.harness.engine.test_faults import PROTOCOL, TASKS, outcome, without_faults
from tests.helpers.faults import FAULTY, POINT_STUB

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture
def cluster(no_ray):
    head = {"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_a_lost_node_costs_only_the_episodes_running_on_it(cluster):
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
            nodes |= {heartbeat.process.node for heartbeat in engine.heartbeats()[0]}
            if len(results) == 100 and doomed is not None:
                cluster.remove_node(doomed, allow_graceful=False)
                doomed = None
    assert len(nodes) == 3, "every node has run an env actor"
    assert not retried, "no attempt is charged for a lost node"
    assert any("its node was lost" in note for note in notes)
    assert {key: outcome(result.played) for key, result in results.items()} == without_faults(plan)


@contextlib.contextmanager
def node_without(folder: Path, address: str, home: Path):
    """Start a node whose processes see an empty folder instead, and which has the only GPU."""
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


@pytest.mark.skipif(not may_unshare(), reason="needs a mount namespace")
def test_transfers_a_checkpoint_to_another_node_without_changing_records(cluster, tmp_path):
    checkpoint, home = tmp_path / "checkpoint", tmp_path / "home"
    shutil.copytree(PRESETS["pi0-tiny"].bundled, checkpoint)
    name = f"pi0-tiny@{checkpoint}"
    protocol = Protocol("metaworld", max_steps=20)
    plan = make_plan([name], list(resolve_tasks("metaworld", ["reach-v3"])), protocol, 2, seed=3)
    results = {}
    with node_without(checkpoint, cluster.address, home) as node:
        wait_for_gpu(cluster.address, node)
        resources = Resources(ray_address=cluster.address)
        with Engine(protocol, {name: parse(name).spec()}, 1, resources, None) as engine:
            for attempt, result in engine.results(plan.episodes):
                assert result.played is not None, result.error
                results[attempt.spec.id] = outcome(result.played)
            (worker,) = engine.heartbeats()[1]
            assert worker.process.node != ray.get_runtime_context().get_node_id()
    (kept,) = (path for path in (home / "checkpoints").iterdir() if path.is_dir())
    assert {p.name for p in kept.rglob("*")} == {p.name for p in checkpoint.rglob("*")}

    policy, spec = parse(name).load(), parse(name).spec()
    policy.prepare(1)
    env = make_env("metaworld", "reach-v3", protocol.render)
    for episode in plan.episodes:
        played = run_episode(env, episode, policy, find_adapter("metaworld", spec), protocol)
        assert results[episode.id] == outcome(played)


def wait_for_gpu(address: str, node: subprocess.Popen) -> None:
    ray.init(address=address, **ray_cluster.QUIET)
    deadline = time.monotonic() + 600
    while not ray.cluster_resources().get("GPU"):
        assert node.poll() is None, node.stdout.read()
        assert time.monotonic() < deadline, "the node does not join"
        time.sleep(0.5)
    ray.shutdown()


def test_rejects_a_node_with_other_software(cluster):
    ray.init(address=cluster.address)
    require_same_software(installed_versions())
    with pytest.raises(EngineError, match=r"other software than this machine: numpy: 0 -> "):
        require_same_software({**installed_versions(), "numpy": "0"})


def test_a_run_without_an_address_does_not_join_a_running_cluster(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    ray_cluster.start_ray(num_cpus=1)
    assert ray.get_runtime_context().gcs_address != cluster.address
    assert ray.cluster_resources()["CPU"] == 1
