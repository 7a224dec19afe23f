"""The engine's own thread, without Ray: who is handed out, what is yielded, and when it ends."""

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
from simloop.harness.engine.gpu_allocation import WorkerGpus
from simloop.harness.engine.resources import EngineError, Resources
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.phase_timer import PHASES, PhaseTotals
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.models.kernels import Kernels
from simloop.policies.scripted import scripted_policy
from tests.helpers.point_suite import point_task

PROTOCOL = Protocol("points", render=RenderSettings("fast", 16, 16))
PLAN = make_plan(["random"], [point_task("left"), point_task("right")], PROTOCOL, 10, seed=3)

CUDNN = Kernels(prompt_attention="cudnn")


class Actor:
    """Plays at once, in a thread; some episodes break at first."""

    pool = ThreadPoolExecutor(4)

    def __init__(self, breaking):
        self._breaking = breaking
        self.play = SimpleNamespace(remote=lambda *args: self._later(self._play, *args))
        self.meet = SimpleNamespace(remote=lambda *on_progress: None)
        self.heartbeat = SimpleNamespace(remote=lambda: self._later(self._heartbeat))

    def _later(self, work, *args):
        future: Future = self.pool.submit(work, *args)
        return SimpleNamespace(future=lambda: future)

    def _play(self, spec, attempt_id):
        time.sleep(0.001)
        if self._breaking.pop((spec.task, spec.episode), None):
            return EpisodeResult(spec, None, error="broke")
        return EpisodeResult(spec, RolloutResult(wall_s=0.01))

    def _heartbeat(self):
        process = ProcessHeartbeat(1, "n", 10**6, 0.0, time.perf_counter(), 10**12)
        return EnvActorHeartbeat(process, (), {phase: PhaseTotals() for phase in PHASES})


@pytest.fixture
def engine(monkeypatch):
    breaking = {}
    monkeypatch.setattr(engine_module, "start_env_actor", lambda *_: Actor(breaking))
    monkeypatch.setattr(engine_module.RayConnection, "open", lambda self: None)
    monkeypatch.setattr("simloop.harness.engine.env_pool.ray.kill", lambda handle: None)
    policy = scripted_policy("random").spec
    with Engine(PROTOCOL, {"random": policy}, 1, Resources(env_actors=2, max_attempts=2), None) as made:
        made.breaking = breaking
        yield made


def test_every_episode_is_yielded_once_whatever_breaks_on_the_way(engine):
    engine.breaking.update({("left", 3): True, ("right", 0): True})
    results = list(engine.results(PLAN.episodes))
    assert sorted(attempt.spec.id for attempt, _ in results) == sorted(spec.id for spec in PLAN.episodes)
    assert all(result.played is not None for _, result in results)
    assert {attempt.spec.episode: attempt.number for attempt, _ in results if attempt.number > 1} == {
        3: 2,
        0: 2,
    }


def test_a_second_plan_is_played_by_the_same_simulators(engine):
    first = list(engine.results(PLAN.episodes[:5]))
    simulators = list(engine._env_pool.all)
    second = list(engine.results(PLAN.episodes[5:]))
    assert (len(first), len(second)) == (5, 15)
    assert engine._env_pool.all == simulators


def test_a_reader_who_is_slow_does_not_hold_up_the_simulators(engine):
    for count, _ in enumerate(engine.results(PLAN.episodes), start=1):
        if count == 1:
            deadline = time.monotonic() + 60
            while engine._env_pool.running or len(engine._queue):
                assert time.monotonic() < deadline, "the rest is not played while the first is written down"
                time.sleep(0.01)
    assert count == len(PLAN.episodes)


def test_in_order_nothing_is_begun_before_what_came_has_been_looked_at(engine):
    begun_too_early = []
    for count, _ in enumerate(engine.results(PLAN.episodes, in_order=True), start=1):
        time.sleep(0.01)
        taken = len(PLAN.episodes) - len(engine._queue)
        begun_too_early.append(taken > count + 2)
    assert count == len(PLAN.episodes)
    assert not any(begun_too_early), "at most those under way on two simulators"


def test_leaving_early_ends_the_thread(engine):
    for _ in engine.results(PLAN.episodes):
        break
    assert not [thread for thread in threading.enumerate() if thread.name == "engine"]


@pytest.mark.parametrize(
    ("said", "before", "gpus", "settled"),
    [
        ((), {}, (1,), {"random": Kernels()}),
        ((), {"random": CUDNN}, (1,), {"random": CUDNN}),
        (("xla",), {"random": CUDNN}, (1,), {"random": Kernels()}),
        ((), {"random": CUDNN}, (0, 0), {"random": Kernels()}),
    ],
)
def test_kernels_are_chosen_only_where_nobody_has_said_or_used_any(said, before, gpus, settled):
    policies = {"random": scripted_policy("random").spec}
    made = Engine(PROTOCOL, policies, 1, Resources(kernels=said), None, kernels=before)
    made._gpus = WorkerGpus(gpus, 1)
    assert made._settled_kernels() == settled


def test_kernels_of_libraries_are_refused_without_a_gpu():
    resources = Resources(kernels=("prompt_attention=cudnn",))
    made = Engine(PROTOCOL, {"random": scripted_policy("random").spec}, 1, resources, None)
    with pytest.raises(EngineError, match="--kernels prompt_attention=cudnn needs a GPU; there is none"):
        made._settled_kernels()
