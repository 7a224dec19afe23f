"""The engine's thread, with threads instead of Ray actors."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.actors.env_actor import EpisodeResult
from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat
from simloop.harness.engine import engine as engine_module
from simloop.harness.engine.engine import Engine
from simloop.harness.engine.resources import EngineError, Resources
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.phase_timer import PHASES, PhaseTotals
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.scripted import scripted_policy
from tests.helpers.point_suite import point_task

PROTOCOL = Protocol("points", render=RenderSettings("fast", 16, 16))
PLAN = make_plan(["random"], [point_task("left"), point_task("right")], PROTOCOL, 10, seed=3)


class Actor:
    """Plays in a thread at once; some episodes fail at first."""

    pool = ThreadPoolExecutor(4)

    def __init__(self, failing):
        self._failing = failing
        self.play = SimpleNamespace(remote=lambda *args: self._later(self._play, *args))
        self.meet = SimpleNamespace(remote=lambda *policy: None)
        self.heartbeat = SimpleNamespace(remote=lambda: self._later(self._heartbeat))

    def _later(self, work, *args):
        future: Future = self.pool.submit(work, *args)
        return SimpleNamespace(future=lambda: future)

    def _play(self, spec, attempt_id):
        time.sleep(0.001)
        if self._failing.pop((spec.task, spec.episode), None):
            return EpisodeResult(spec, None, error="broke")
        return EpisodeResult(spec, RolloutResult(wall_s=0.01))

    def _heartbeat(self):
        process = ProcessHeartbeat(1, "n", 10**6, 0.0, time.perf_counter(), 10**12, 10**12)
        return EnvActorHeartbeat(process, (), {phase: PhaseTotals() for phase in PHASES})


@pytest.fixture
def engine(monkeypatch):
    failing = {}
    monkeypatch.setattr(engine_module, "start_env_actor", lambda *_: Actor(failing))
    monkeypatch.setattr(engine_module.RayConnection, "open", lambda self: None)
    monkeypatch.setattr("simloop.harness.engine.env_pool.ray.kill", lambda handle: None)
    policy = scripted_policy("random").spec
    with Engine(PROTOCOL, {"random": policy}, 1, Resources(env_actors=2, max_attempts=2), None) as made:
        made.failing = failing
        yield made


def test_yields_every_episode_once_despite_failures(engine):
    engine.failing.update({("left", 3): True, ("right", 0): True})
    results = list(engine.results(PLAN.episodes))
    assert sorted(attempt.spec.id for attempt, _ in results) == sorted(spec.id for spec in PLAN.episodes)
    assert all(result.played is not None for _, result in results)
    assert {attempt.spec.episode: attempt.number for attempt, _ in results if attempt.number > 1} == {
        3: 2,
        0: 2,
    }


def test_a_second_plan_uses_the_same_env_actors(engine):
    first = list(engine.results(PLAN.episodes[:5]))
    env_actors = list(engine._env_pool.all)
    second = list(engine.results(PLAN.episodes[5:]))
    assert (len(first), len(second)) == (5, 15)
    assert engine._env_pool.all == env_actors


def test_a_slow_reader_does_not_hold_up_env_actors(engine):
    for count, _ in enumerate(engine.results(PLAN.episodes), start=1):
        if count == 1:
            deadline = time.monotonic() + 60
            while engine._env_pool.running or len(engine._queue):
                assert time.monotonic() < deadline, "the rest is not played while the first is written down"
                time.sleep(0.01)
    assert count == len(PLAN.episodes)


def test_in_order_starts_nothing_before_all_results_are_read(engine):
    started_too_early = []
    for count, _ in enumerate(engine.results(PLAN.episodes, in_order=True), start=1):
        time.sleep(0.01)
        taken = len(PLAN.episodes) - len(engine._queue)
        started_too_early.append(taken > count + 2)
    assert count == len(PLAN.episodes)
    assert not any(started_too_early), "more than the episodes under way on two env actors"


def test_leaving_the_loop_ends_the_thread(engine):
    for _ in engine.results(PLAN.episodes):
        break
    assert not [thread for thread in threading.enumerate() if thread.name == "engine"]


def test_rejects_library_kernels_without_a_gpu(monkeypatch):
    monkeypatch.setattr(engine_module.RayConnection, "open", lambda self: None)
    policies = {"random": scripted_policy("random").spec}
    resources = Resources(kernels=("prompt_attention=cudnn",))
    with (
        pytest.raises(EngineError, match="--kernels prompt_attention=cudnn needs a GPU; there is none"),
        Engine(PROTOCOL, policies, 1, resources, None),
    ):
        pass
