"""Delays in real processes are found in their stages; `tests/harness/actors/test_latency_stages.py` has every place."""

import dataclasses

import numpy as np
import pytest

from simloop.harness.engine.engine import Engine
from simloop.harness.engine.ray_cluster import start_ray
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.plan import make_plan
from tests.helpers.point_suite import FOLDER_VARIABLE, point_task
from tests.helpers.slow_parts import DELAY_S, NEIGHBOUR, PLACES, PROTOCOL, TRANSPORTS, WATCHED

STAGES = ("render", "adapt", "retry", "transport", "queue", "host", "device", "post", "turn")


@pytest.mark.slow
@pytest.mark.usefixtures("no_ray")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_delay_in_a_busy_run_is_found_in_its_stage_and_in_no_other(tmp_path, transport, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))  # Ray's processes inherit it.
    start_ray(num_cpus=2)
    watched = make_plan([WATCHED.name], [point_task("left")], PROTOCOL, 1, 0).episodes
    others = make_plan([NEIGHBOUR.name], [point_task("right")], PROTOCOL, 80, 0).episodes
    specs = {
        WATCHED.name: WATCHED.spec(),
        NEIGHBOUR.name: dataclasses.replace(NEIGHBOUR.spec(), runs_in="actor"),
    }
    resources = Resources(env_actors=1, envs_per_actor=3)
    with Engine(PROTOCOL, specs, 1, resources, None, factories=TRANSPORTS[transport]) as engine:
        results = [result for _, result in engine.results([*watched, *others], in_order=True)]
    assert not [result.trace for result in results if result.played is None]
    (episode,) = (result.played for result in results if result.spec.policy == WATCHED.name)
    found = {
        place: [stage for stage in STAGES if getattr(row, f"{stage}_ms") > 800 * DELAY_S]
        for place, row in zip(PLACES, episode.queries, strict=False)
    }
    assert found == {place: [stage] for place, stage in PLACES.items()}
    for result in results:
        for row in result.played.queries:
            stages = np.array([getattr(row, f"{stage}_ms") for stage in STAGES])
            assert stages.min() >= 0
            assert stages.sum() == pytest.approx(row.total_ms, abs=2e-3)
