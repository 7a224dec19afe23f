"""Faults of a policy server neither lose nor repeat episodes, nor change what was played."""

from functools import partial

import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.actors.factories import Factories
from simloop.harness.engine.engine import Engine
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.loop import run_episode
from tests.helpers.point_suite import make_point_env, point_task
from tests.helpers.policy_servers import (
    FAULTS,
    POINT_ADAPTER,
    FaultyPointServer,
    PointStatePolicy,
    load_point_remote,
)

PROTOCOL = Protocol("points", render=RenderSettings("fast", 32, 32), replan_steps=3, max_steps=12)
TASKS = [point_task("left"), point_task("right")]


def outcome(played):
    return (played.ended_by, played.steps, played.reward, played.actions_sha256, played.final_state_sha256)


def point_adapter(suite, policy):
    return POINT_ADAPTER


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("shared_ray")
def test_two_hundred_random_faults_of_a_server_change_no_record():
    plan = make_plan(["remote"], TASKS, PROTOCOL, 120, seed=3)
    expected = {
        spec.id: outcome(
            run_episode(
                make_point_env("points", spec.task, PROTOCOL.render),
                spec,
                PointStatePolicy(),
                POINT_ADAPTER,
                PROTOCOL,
            )
        )
        for spec in plan.episodes
    }
    server, played = FaultyPointServer(faults=200), {}
    with server.surviving() as address:
        factories = Factories(make_point_env, partial(load_point_remote, address), point_adapter)
        resources = Resources(env_actors=2, envs_per_actor=4, workers=1, max_attempts=100)
        with Engine(
            PROTOCOL, {"remote": PointStatePolicy.spec}, 4, resources, None, factories=factories
        ) as engine:
            for attempt, result in engine.results(plan.episodes):
                assert attempt.spec.id not in played, "counted twice"
                assert result.played is not None, result.error
                played[attempt.spec.id] = outcome(result.played)

    assert played == expected
    assert server.left == 0
    assert set(server.happened) == set(FAULTS)
