"""Records depend neither on the schedule nor on the order of replies."""

import asyncio
import time
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simloop.envs.interface import RenderSettings
from simloop.harness.actors.env_actor import EnvActor
from simloop.harness.actors.factories import Factories
from simloop.harness.adapters.base import Adapter
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.loop import run_episode
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from tests.helpers.in_process_workers import InProcessWorker
from tests.helpers.point_suite import make_point_env, point_task

PROTOCOL = Protocol("points", render=RenderSettings("fast", 32, 32), replan_steps=3, max_steps=12)
ADAPTER = Adapter("points", "point", cameras={"base_0_rgb": "top", "hand_rgb": "hand"})
STUB = Stub(robot="point", cameras=("base_0_rgb", "hand_rgb"), action_size=2, chunk_steps=5)
PLAN = make_plan(["stub"], [point_task("left"), point_task("right")], PROTOCOL, 5, seed=11)


@dataclass(frozen=True)
class Schedule:
    """Number of processes, order of episodes, and duration of each batch."""

    env_actors: int
    envs_per_actor: int
    workers: int
    batch_size: int
    pauses_ms: tuple[int, ...]
    order: tuple[int, ...]


class Unsteady(StubPolicy):
    """Stub whose batches take different times."""

    def __init__(self, pauses_ms):
        super().__init__(STUB)
        self._pauses_ms = pauses_ms
        self._calls = 0
        self.sizes = []

    def infer(self, queries, batch_size):
        time.sleep(self._pauses_ms[self._calls % len(self._pauses_ms)] / 1e3)
        self._calls += 1
        self.sizes.append(len(queries))
        return super().infer(queries, batch_size)


def outcome(played):
    return (played.ended_by, played.steps, played.reward, played.actions_sha256, played.final_state_sha256)


def one_by_one():
    """Outcomes of all episodes, played one by one."""
    records = {}
    for spec in PLAN.episodes:
        env = make_point_env("points", spec.task, PROTOCOL.render)
        records[spec.id] = outcome(run_episode(env, spec, StubPolicy(STUB), ADAPTER, PROTOCOL))
    return records


async def play_by(schedule: Schedule):
    sources = Factories(env=make_point_env, adapter=lambda spec, policy: ADAPTER)
    actors = [EnvActor(PROTOCOL, None, sources) for _ in range(schedule.env_actors)]
    policies = [Unsteady(schedule.pauses_ms) for _ in range(schedule.workers)]
    workers = [InProcessWorker(i, policy, schedule.batch_size) for i, policy in enumerate(policies)]
    waiting = [PLAN.episodes[i] for i in schedule.order]
    results = {}

    async def pull(actor: EnvActor, attempt_id: int) -> None:
        while waiting:
            spec = waiting.pop(0)
            result = await actor.play(spec, attempt_id)
            assert result.played is not None, result.trace
            results[spec.id] = result.played

    try:
        for actor in actors:
            await actor.meet(STUB.name, STUB.spec(), tuple(workers))
        pulls = [pull(actor, attempt_id) for actor in actors for attempt_id in range(schedule.envs_per_actor)]
        await asyncio.gather(*pulls)
        sent = sum([(await actor.heartbeat()).bytes_sent for actor in actors])
    finally:
        for worker in workers:
            worker.close()
    return results, sent, [size for policy in policies for size in policy.sizes]


schedules = st.builds(
    Schedule,
    env_actors=st.integers(1, 3),
    envs_per_actor=st.integers(1, 4),
    workers=st.integers(1, 2),
    batch_size=st.integers(1, 4),
    pauses_ms=st.lists(st.integers(0, 4), min_size=1, max_size=6).map(tuple),
    order=st.permutations(range(len(PLAN.episodes))).map(tuple),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedules)
def test_records_do_not_depend_on_the_schedule(schedule):
    results, _, _ = asyncio.run(play_by(schedule))
    assert {key: outcome(played) for key, played in results.items()} == one_by_one()


def test_environments_of_one_actor_share_batches():
    schedule = Schedule(1, 4, 1, 4, (5,), tuple(range(len(PLAN.episodes))))
    _, _, sizes = asyncio.run(play_by(schedule))
    assert max(sizes) > 1


def test_images_are_sent_once_per_query_and_never_between_queries():
    schedule = Schedule(1, 2, 1, 2, (0,), tuple(range(len(PLAN.episodes))))
    results, sent, _ = asyncio.run(play_by(schedule))
    queries = sum(len(played.queries) for played in results.values())
    steps = sum(played.steps for played in results.values())
    assert steps > 2 * queries, "most steps execute a buffered action"
    images = 2 * 32 * 32 * 3
    assert queries * images <= sent < queries * (images + 200)
    for played in results.values():
        assert played.renders == 2 * len(played.queries)
