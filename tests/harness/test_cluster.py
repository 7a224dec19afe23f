"""A cluster of several machines, played by several Ray nodes of this one."""

import pytest
import ray
from ray.cluster_utils import Cluster

from harness import ray_connection
from harness.engine import Engine, Listener
from harness.plan import make_plan
from harness.ray_connection import installed, require_alike_nodes
from harness.resources import EngineError, Resources
from tests.harness.test_faults import PROTOCOL, TASKS, told, undisturbed
from tests.helpers.faults import FAULTY, POINT_STUB

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture
def cluster():
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 10**8})
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_a_machine_that_is_lost_costs_only_the_episodes_under_way_on_it(cluster):
    doomed = cluster.add_node(num_cpus=1, object_store_memory=10**8)
    cluster.add_node(num_cpus=1, object_store_memory=10**8)
    plan = make_plan(["stub"], TASKS, PROTOCOL, 200, seed=8)
    notes, retried, results = [], [], {}
    listener = Listener(note=notes.append, retry=lambda attempt, error: retried.append(error))
    resources = Resources(max_attempts=1, ray_address=cluster.address)
    with Engine(PROTOCOL, {"stub": POINT_STUB.spec()}, 4, resources, None, listener, FAULTY) as engine:
        nodes = set()
        for attempt, result in engine.results(plan.episodes):
            assert attempt.spec.id not in results
            results[attempt.spec.id] = result
            nodes |= {health.process.node for health in engine.healths()[0]}
            if len(results) == 100 and doomed is not None:
                cluster.remove_node(doomed, allow_graceful=False)
                doomed = None
    assert len(nodes) == 3, "every machine has simulated, by a process for each core"
    assert not retried, "nobody is charged for a machine"
    assert any("its machine was lost" in note for note in notes)
    assert {key: told(result.played) for key, result in results.items()} == undisturbed(plan)


def test_a_machine_with_other_software_is_refused_and_named(cluster):
    ray.init(address=cluster.address)
    require_alike_nodes(installed())
    with pytest.raises(EngineError, match=r"other software than this one: numpy: 0 -> "):
        require_alike_nodes({**installed(), "numpy": "0"})


def test_an_address_without_a_cluster_is_said_in_a_sentence():
    resources = Resources(ray_address="127.0.0.1:1")
    with pytest.raises(EngineError, match=r"no Ray cluster at '127.0.0.1:1'"):
        ray_connection.RayConnection(resources).open()
