"""The engine with Ray actors, on the point suite."""

import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.actors.env_actor import VideoSettings
from simloop.harness.actors.factories import Factories
from simloop.harness.engine.engine import Engine, EngineCallbacks
from simloop.harness.engine.resources import EngineError, Resources
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from tests.helpers.point_policies import load_point_policy
from tests.helpers.point_suite import make_point_env, point_task

pytestmark = pytest.mark.usefixtures("shared_ray")

PROTOCOL = Protocol("points", render=RenderSettings("fast", 16, 16), replan_steps=3)
FACTORIES = Factories(make_point_env, load_point_policy)


def play_all(
    policies, tasks, *, episodes=3, env_actors=2, batch_size=2, video=None, on_retry=lambda *_: None
):
    plan = make_plan(policies, [point_task(name) for name in tasks], PROTOCOL, episodes, seed=3)
    specs = {name: load_point_policy(name).spec for name in policies}
    reports = []
    resources = Resources(env_actors=env_actors)
    with Engine(
        PROTOCOL, specs, batch_size, resources, video, EngineCallbacks(reports.append, on_retry), FACTORIES
    ) as engine:
        results = {attempt.spec.id: (attempt, result) for attempt, result in engine.results(plan.episodes)}
    assert results.keys() == {spec.id for spec in plan.episodes}
    return results, reports


def outcomes(results):
    return {
        key: (r.played.ended_by, r.played.steps, r.played.actions_sha256, r.played.final_state_sha256)
        for key, (_, r) in results.items()
    }


def test_outcomes_do_not_depend_on_env_actors_or_batch_size():
    policies, tasks = ["noisy-worker", "noisy-actor"], ["left", "right"]
    one, _ = play_all(policies, tasks, env_actors=1, batch_size=1)
    two, reports = play_all(policies, tasks, env_actors=2, batch_size=3)
    assert outcomes(one) == outcomes(two)
    assert [report.spec.name for report in reports] == ["noisy-worker"]
    for (policy, *rest), outcome in outcomes(two).items():
        other = "noisy-actor" if policy == "noisy-worker" else "noisy-worker"
        assert outcomes(two)[other, *rest] == outcome
    queries = [row for _, result in two.values() for row in result.played.queries]
    assert all(row.total_ms >= row.device_ms > 0 for row in queries)
    assert {row.bucket for row in queries} == {1, 3}


def test_a_fault_becomes_an_error_after_a_retry():
    retried = []
    results, _ = play_all(
        ["exact-actor"],
        ["raises-in-reset", "point", "raises-in-step", "dies"],
        episodes=1,
        video=VideoSettings(("top", "hand"), 5),
        on_retry=lambda attempt, error: retried.append((attempt.spec.task, error)),
    )
    by_task = {key[3]: value for key, value in results.items()}
    assert by_task["point"][1].played.ended_by == "success"
    assert by_task["point"][1].attachments["video"][4:8] == b"ftyp"
    for task, text in [
        ("raises-in-reset", "RuntimeError: the scene is broken (reset in point_suite.py"),
        ("raises-in-step", "RuntimeError: the solver diverged"),
        ("dies", "The env actor died"),
    ]:
        attempt, result = by_task[task]
        assert attempt.number == Resources().max_attempts
        assert result.played is None
        assert text in result.error
    assert sorted(task for task, _ in retried) == ["dies", "raises-in-reset", "raises-in-step"]


def test_a_transient_fault_costs_one_attempt():
    results, _ = play_all(["exact-actor"], ["raises-once"], episodes=1, env_actors=1)
    ((attempt, result),) = results.values()
    assert (attempt.number, result.played.ended_by) == (2, "success")


def test_starts_no_episode_after_stop_starting():
    plan = make_plan(["exact-actor"], [point_task("left")], PROTOCOL, 30, seed=3)
    specs = {"exact-actor": load_point_policy("exact-actor").spec}
    with Engine(PROTOCOL, specs, 1, Resources(env_actors=2), None, factories=FACTORIES) as engine:
        played = []
        for attempt, _ in engine.results(plan.episodes, in_order=True):
            played.append(attempt.spec.episode)
            if len(played) == 5:
                engine.stop_starting()
    assert 5 <= len(played) <= 5 + 2, "more than the episodes under way"


def test_in_order_waits_for_a_policy_that_is_not_ready():
    plan = make_plan(
        ["exact-worker", "exact-actor"], [point_task("left")], PROTOCOL, 6, seed=3, interleaved_pairs=6
    )
    specs = {name: load_point_policy(name).spec for name in ("exact-worker", "exact-actor")}
    with Engine(
        PROTOCOL, specs, 1, Resources(env_actors=1, envs_per_actor=1), None, factories=FACTORIES
    ) as engine:
        played = [attempt.spec.id for attempt, _ in engine.results(plan.episodes, in_order=True)]
    assert played == [spec.id for spec in plan.episodes]


def test_names_a_policy_that_cannot_be_loaded():
    with pytest.raises(EngineError, match=r"Policy 'broken-worker' cannot be used: .*no such weights"):
        play_all(["broken-worker"], ["point"], episodes=1)


def test_a_failing_query_makes_its_episode_an_error():
    results, _ = play_all(["failing-worker"], ["point"], episodes=1)
    ((_, result),) = results.values()
    assert "cannot answer this" in result.error


def test_rejects_resources_below_one():
    with pytest.raises(EngineError, match="at least 1; got 0"):
        Resources(env_actors=0)


def test_metrics_report_what_a_starting_worker_is_doing():
    plan = make_plan(["slow-worker"], [point_task("left")], PROTOCOL, 1, seed=3)
    specs = {"slow-worker": load_point_policy("slow-worker").spec}
    starting = []
    callbacks = EngineCallbacks(metrics=lambda metrics: starting.append(metrics.starting))
    with Engine(PROTOCOL, specs, 1, Resources(env_actors=1), None, callbacks, FACTORIES) as engine:
        assert len(list(engine.results(plan.episodes))) == 1
    assert any("slow-worker: compiling, " in text for text in starting), starting
