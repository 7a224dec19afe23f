"""The contract of `PolicyClient`, kept by every transport."""

import asyncio
import contextlib
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import ray

from simloop.harness.actors.worker_client import RayClient
from simloop.harness.serving.batcher import Batcher
from simloop.harness.serving.policy_client import InProcessClient, LeastWaiting
from simloop.harness.serving.shm_channel import ShmChannel
from simloop.harness.serving.shm_server import ShmServer
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.policies.interface import PolicyError, Query, QueryError
from tests.helpers.in_process_workers import RemoteLoop

STUB = Stub(cameras=("base_0_rgb",), service_s=0.002)


class Picky(StubPolicy):
    def infer(self, queries, batch_size):
        if any(query.task == "unknown" for query in queries):
            raise QueryError("no such task")
        if any(query.task == "exits" for query in queries):
            sys.exit("out of licences")
        return super().infer(queries, batch_size)


def query(key: int, task: str = "t") -> Query:
    image = np.random.default_rng(key).integers(0, 256, (32, 32, 3), np.uint8)
    return Query(task, "i", key, np.zeros(3, np.float32), {"base_0_rgb": image})


@contextlib.asynccontextmanager
async def in_process():
    yield InProcessClient(lambda: Picky(STUB))


@contextlib.asynccontextmanager
async def shared_memory():
    batcher = Batcher(Picky(STUB), [1])
    server = ShmServer(
        lambda query, done, waited_s: batcher.put(query, done, encode_here=True, waited_s=waited_s)
    )
    channel = await ShmChannel.open(server.open(), query(0))
    try:
        yield channel
    finally:
        channel.close()
        server.close()
        batcher.close()


@contextlib.asynccontextmanager
async def through_ray():
    """A policy worker behind an object with the interface of a Ray handle; Ray's own part is tested with the engine."""
    batcher = Batcher(Picky(STUB), [1])

    async def infer(query: Query):
        try:
            return await batcher.ask(query)
        except Exception as error:
            raise ray.exceptions.RayTaskError("infer", "traceback", error) from error

    loop = RemoteLoop()
    try:
        yield RayClient(SimpleNamespace(infer=loop.method(infer)))
    finally:
        batcher.close()
        loop.close()


@contextlib.asynccontextmanager
async def balanced():
    yield LeastWaiting([InProcessClient(lambda: Picky(STUB)) for _ in range(2)])


@pytest.fixture(params=[in_process, shared_memory, through_ray, balanced], ids=lambda made: made.__name__)
def using(request):
    """Run a test's coroutine function with a client."""

    def run(test):
        async def main():
            async with request.param() as client:
                return await test(client)

        return asyncio.run(main())

    return run


def test_every_query_gets_its_own_reply(using):
    async def ask_all(client):
        return await asyncio.gather(*(client.ask(query(i)) for i in range(12)))

    wanted = [StubPolicy(STUB).infer([query(i)], 1).chunks[0].actions for i in range(12)]
    for reply, actions in zip(using(ask_all), wanted, strict=True):
        np.testing.assert_array_equal(reply.chunk.actions, actions)
        assert (reply.batch, reply.batch_size) == (1, 1)


def test_an_error_of_the_policy_is_raised_at_its_query_only(using):
    async def ask_three(client):
        return await asyncio.gather(
            client.ask(query(0)),
            client.ask(query(1, "unknown")),
            client.ask(query(2)),
            return_exceptions=True,
        )

    first, error, last = using(ask_three)
    assert type(error) is QueryError
    assert str(error) == "no such task"
    assert first.chunk.actions.shape == last.chunk.actions.shape


def test_a_policy_that_exits_answers_the_next_query(using):
    async def ask_twice(client):
        with pytest.raises(PolicyError, match="Policy 'stub' raised SystemExit: out of licences"):
            await client.ask(query(0, "exits"))
        return await client.ask(query(1))

    assert using(ask_twice).chunk.actions.shape == (10, 4)


def test_stages_are_not_negative_and_not_longer_than_asking_took(using):
    async def ask_all(client):
        began = time.perf_counter()
        replies = await asyncio.gather(*(client.ask(query(i)) for i in range(6)))
        return replies, time.perf_counter() - began

    replies, elapsed_s = using(ask_all)
    for reply in replies:
        assert min(reply.host_s, reply.post_s, reply.queue_s) >= 0
        assert 0 < reply.device_s <= reply.stages_s <= elapsed_s


def test_a_reply_says_when_it_reached_the_process_however_long_it_waits_there_for_its_turn(using):
    async def ask_one(client):
        began = time.perf_counter()
        asking = asyncio.create_task(client.ask(query(0)))
        await asyncio.sleep(0)
        time.sleep(0.2)  # The process simulates another environment.
        reply = await asking
        return began, reply, time.perf_counter()

    began, reply, answered = using(ask_one)
    assert began + reply.stages_s < reply.arrived_at < answered - 0.1
