"""A delay at any place of a query is found in its stage and in no other, on every transport, in a busy env actor."""

import asyncio
import dataclasses
import functools
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.actors import env_actor, policy_worker, worker_client
from simloop.harness.actors.env_actor import EnvActor
from simloop.harness.actors.factories import Factories
from simloop.harness.adapters.base import Adapter
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout import loop, phase_timer
from simloop.harness.serving import batcher, policy_client, shm_channel, shm_server
from simloop.harness.serving.policy_client import PolicyDisconnected
from simloop.harness.serving.shm_channel import ShmChannel
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.policies.interface import Query
from tests.helpers.in_process_workers import InProcessWorker
from tests.helpers.point_suite import PointEnv, point_task

DELAY_S = 1.0
LONG_MS = 500 * DELAY_S
STEP_S = 1e-5
"""Duration of a neighbour's control step."""
STAGES = ("render", "adapt", "retry", "transport", "queue", "host", "device", "post", "turn")
PLACES = {
    "first query": "retry",
    "render": "render",
    "adapt": "adapt",
    "lost connection": "retry",
    "way to the policy": "transport",
    "way back": "transport",
    "another batch": "queue",
    "encode": "host",
    "assemble": "host",
    "model": "device",
    "decode": "post",
    "neighbour": "turn",
}
"""Where query i of the watched episode is delayed, and the stage that has to show it."""
IN_PROCESS = ("first query", "render", "adapt", "encode", "model", "decode", "neighbour")
WATCHED, NEIGHBOURS = "left", "right"
TIMED = (batcher, loop, phase_timer, policy_client, policy_worker, shm_channel, shm_server, worker_client)
PROTOCOL = Protocol(
    "points", render=RenderSettings("fast", 16, 16), replan_steps=1, max_steps=len(PLACES) + 2
)
STUB = Stub("watched", cameras=("base_0_rgb",), action_size=2, chunk_steps=1)
NEIGHBOUR = Stub("neighbour", action_size=2, chunk_steps=1)


class Delays:
    """What is delayed, shared by all parts of the test, with a clock that advances by delays and neighbours' steps."""

    def __init__(self, places):
        self.now = 1000.0
        self.places = tuple(places)
        self.actor_thread = threading.get_ident()
        self.worker = None
        self.lost_once = False
        self.slow_reply = False
        self.neighbour_is_asked = False
        self.neighbour_has_begun = threading.Event()
        self.reply_has_arrived = threading.Event()
        self.blocker_has_begun = threading.Event()
        self.blocked_query_waits = threading.Event()

    def place(self, query: Query) -> str:
        known = query.task == WATCHED and query.step < len(self.places)
        return self.places[query.step] if known else ""

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float = DELAY_S) -> None:
        self.now += seconds

    def sleep_at(self, place: str, query: Query) -> float:
        """Sleep if the query is delayed there; returns the seconds."""
        if self.place(query) != place:
            return 0.0
        self.sleep()
        return DELAY_S

    def ask_neighbour(self) -> None:
        """Have a neighbour simulate for long, and return when it has begun, unless that is in this thread."""
        self.neighbour_is_asked = True
        if threading.get_ident() != self.actor_thread:
            assert self.neighbour_has_begun.wait(60)


class Env(PointEnv):
    """Never reaches its goal. The neighbours' is always busy."""

    def __init__(self, delays, task):
        super().__init__(point_task(task), PROTOCOL.render)
        self.delays = delays
        self.steps = 0

    def reset(self, seed):
        super().reset(seed)
        self.steps = 0

    def step(self, action):
        self.steps += 1
        if self.spec.name == NEIGHBOURS:
            asked, self.delays.neighbour_is_asked = self.delays.neighbour_is_asked, False
            if asked and self.delays.worker is not None:
                self.delays.neighbour_has_begun.set()
                assert self.delays.reply_has_arrived.wait(60)
                time.sleep(0.05)  # The client notes the arrival directly afterwards.
            self.delays.sleep(DELAY_S if asked else STEP_S)
        return dataclasses.replace(super().step(action), success=False)

    def render(self, camera):
        if self.spec.name == WATCHED and self.delays.places[self.steps : self.steps + 1] == ("render",):
            self.delays.sleep()
        return super().render(camera)


class SlowAdapter(Adapter):
    def query(self, env, policy, images, instruction, **identity):
        query = super().query(env, policy, images, instruction, **identity)
        self.delays.sleep_at("adapt", query)
        if self.delays.place(query) == "another batch":
            self.delays.worker._batcher.put(dataclasses.replace(query, task="blocks"), lambda reply: None)
            assert self.delays.blocker_has_begun.wait(60)
        return query


class Policy(StubPolicy):
    def __init__(self, delays):
        super().__init__(STUB)
        self.delays = delays
        self.encoded = set()

    def encode(self, query):
        self.encoded.add(query.step)
        if self.delays.place(query) == "another batch":
            threading.Timer(0.05, self.delays.blocked_query_waits.set).start()
        self.delays.sleep_at("encode", query)
        return query

    def assemble(self, rows, batch_size):
        self.delays.sleep_at("assemble", rows[0])
        return super().assemble(rows, batch_size)

    def infer(self, queries, batch_size):
        (query,) = queries
        host_s = 0.0 if query.step in self.encoded else self.delays.sleep_at("encode", query)
        self.delays.sleep_at("model", query)
        if query.task == "blocks":
            self.delays.blocker_has_begun.set()
            assert self.delays.blocked_query_waits.wait(60)
            self.delays.sleep()
        if self.delays.place(query) == "neighbour":
            self.delays.ask_neighbour()
        self.delays.slow_reply = self.delays.place(query) == "way back"
        post_s = self.delays.sleep_at("decode", query)
        return dataclasses.replace(super().infer(queries, batch_size), host_s=host_s, post_s=post_s)


def delayed_ask(delays, ask):
    """Lose the connection of one query, after a while."""

    async def ask_late(self, query):
        if delays.place(query) == "lost connection" and not delays.lost_once:
            delays.lost_once = True
            delays.sleep()
            if isinstance(self, ShmChannel):
                self.close()
            raise PolicyDisconnected("lost")
        return await ask(self, query)

    return ask_late


def through_shared_memory(monkeypatch, delays, worker):
    read, send = shm_server._read_query, shm_server.Messages.send

    def read_late(*arguments):
        query = read(*arguments)
        delays.sleep_at("way to the policy", query)
        return query

    def send_late(self, message):
        if threading.get_ident() == delays.actor_thread:
            return send(self, message)
        if delays.slow_reply:
            delays.slow_reply = False
            delays.sleep()
        sent = send(self, message)
        if delays.neighbour_has_begun.is_set():
            delays.reply_has_arrived.set()
        return sent

    monkeypatch.setattr(shm_server, "_read_query", read_late)
    monkeypatch.setattr(shm_server.Messages, "send", send_late)
    monkeypatch.setattr(ShmChannel, "ask", delayed_ask(delays, ShmChannel.ask))


def through_ray(monkeypatch, delays, worker):
    async def infer_late(query):
        delays.sleep_at("way to the policy", query)
        reply = await worker.worker.infer(query)
        delays.sleep_at("way back", query)
        return reply

    method = worker._loop.method(infer_late)

    def infer(query):
        called = method.remote(query)
        if delays.place(query) == "neighbour":
            called.future().add_done_callback(lambda _: delays.reply_has_arrived.set())
        return called

    worker.infer = SimpleNamespace(remote=infer)
    monkeypatch.setattr(worker_client, "this_node", lambda: "another node")
    monkeypatch.setattr(worker_client.RayClient, "ask", delayed_ask(delays, worker_client.RayClient.ask))


def busy_run(delays, worker=None):
    """Play the watched episode while two neighbours are simulated; returns the queries of both."""
    adapter = SlowAdapter("points", "metaworld", cameras={"base_0_rgb": "top"})
    object.__setattr__(adapter, "delays", delays)

    def load(name):
        if name == STUB.name:
            delays.sleep()
            return Policy(delays)
        return StubPolicy(NEIGHBOUR)

    async def main():
        actor = EnvActor(
            PROTOCOL,
            None,
            Factories(
                env=lambda suite, task, render: Env(delays, task),
                policy=load,
                adapter=lambda spec, policy: adapter,
            ),
        )
        await actor.meet(STUB.name, STUB.spec(), (worker,) if worker else ())
        await actor.meet("neighbour", NEIGHBOUR.spec())
        (watched,) = make_plan([STUB.name], [point_task(WATCHED)], PROTOCOL, 1, 0).episodes
        (other,) = make_plan(["neighbour"], [point_task(NEIGHBOURS)], PROTOCOL, 1, 0).episodes
        ended, others = [], [await actor.play(other)]

        async def keep_busy(attempt_id):
            while not ended:
                others.append(await actor.play(other, attempt_id))

        async def watch():
            ended.append(await actor.play(watched, 0))

        await asyncio.gather(watch(), keep_busy(1), keep_busy(2))
        results = [*ended, *others]
        assert not [result.trace for result in results if result.played is None]
        return ended[0].played.queries, [query for result in others for query in result.played.queries]

    return asyncio.run(main())


@pytest.mark.parametrize("transport", ["in process", "shared memory", "ray"])
def test_a_delay_is_found_in_its_stage_and_in_no_other(monkeypatch, transport):
    delays = Delays(IN_PROCESS if transport == "in process" else PLACES)
    clock = SimpleNamespace(perf_counter=delays.clock, thread_time=time.thread_time, sleep=time.sleep)
    for module in TIMED:
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(env_actor, "play", functools.partial(loop.play, clock=delays.clock))
    worker = None
    if transport != "in process":
        worker = InProcessWorker(0, Policy(delays), 1)
        delays.worker = worker.worker
        address = worker.address.remote

        def address_late():
            if not delays.lost_once:  # The first time, and not after the lost connection.
                delays.sleep()
            return address()

        worker.address.remote = address_late
        {"shared memory": through_shared_memory, "ray": through_ray}[transport](monkeypatch, delays, worker)
    try:
        watched, others = busy_run(delays, worker)
    finally:
        if worker is not None:
            worker.close()
    found = {}
    for place, row in zip(delays.places, watched, strict=False):
        found[place] = [stage for stage in STAGES if getattr(row, f"{stage}_ms") > LONG_MS]
    assert found == {place: [PLACES[place]] for place in delays.places}
    for row in (*watched, *others):
        stages = np.array([getattr(row, f"{stage}_ms") for stage in STAGES])
        assert stages.min() >= 0
        assert stages.sum() == pytest.approx(row.total_ms, abs=2e-3)
    if transport == "in process":  # With another thread, delays pass while the neighbours are in any stage.
        assert all(row.adapt_ms < LONG_MS for row in others)
    assert sum(row.retry_ms > 0 for row in watched) == ("lost connection" in delays.places) + 1
