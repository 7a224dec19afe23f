import asyncio
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from threading import Timer

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simloop.harness.rollout.latency import Reply
from simloop.harness.serving import shm_channel
from simloop.harness.serving.policy_client import PolicyDisconnected
from simloop.harness.serving.shm_channel import ShmChannel
from simloop.harness.serving.shm_server import ShmServer
from simloop.policies.interface import Chunk, PolicyError, Query


def query(key: int = 0, size: int = 32, cameras: int = 2) -> Query:
    generator = np.random.default_rng(key)
    return Query(
        task="t",
        instruction="lift it",
        key=key,
        state=generator.normal(size=4).astype(np.float32),
        images={f"cam{i}": generator.integers(0, 256, (size, size, 3), np.uint8) for i in range(cameras)},
        action_low=np.full(2, -1.0),
    )


def echo(query: Query) -> Reply:
    """Answer with everything that arrived, as numbers."""
    parts = [query.state, *(image.astype(np.float32).ravel() for image in query.images.values())]
    return Reply(Chunk(np.concatenate([*parts, [query.key]]).astype(np.float32)[None]))


def answer(query: Query) -> np.ndarray:
    return echo(query).chunk.actions


def put(query: Query, done, waited_s: float = 0.0) -> None:
    done(echo(query))


@pytest.fixture
def address():
    server = ShmServer(put)
    yield server.open()
    server.close()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=20)
)
def test_delivers_every_query_whole_and_its_own_reply_in_any_order(shapes):
    queries = [
        query(*shape) for shape in shapes
    ]  # Some are larger than the first, for which blocks are made.
    server = ShmServer(lambda asked, done, _: Timer((asked.key % 4) / 1e3, lambda: put(asked, done)).start())

    async def main():
        channel = await ShmChannel.open(server.open(), queries[0])
        replies = await asyncio.gather(*(channel.ask(q) for q in queries))
        channel.close()
        return replies

    for asked, reply in zip(queries, asyncio.run(main()), strict=True):
        np.testing.assert_array_equal(reply.chunk.actions, answer(asked))
    server.close()


def test_copies_images_once_into_memory_and_not_through_the_socket(address):
    sent = []

    async def main():
        channel = await ShmChannel.open(address, query(size=64))
        send = channel._messages._send
        channel._messages._send = lambda data: (sent.append(len(data)), send(data))[1]
        await channel.ask(query(size=64))
        return channel.bytes_sent

    images = 2 * 64 * 64 * 3
    assert images <= asyncio.run(main()) < images + 100
    assert sum(sent) < 1500


def test_answers_more_queries_than_there_are_blocks(monkeypatch, address):
    monkeypatch.setattr(shm_channel, "BLOCKS", 2)

    async def main():
        channel = await ShmChannel.open(address, query())
        return await asyncio.gather(*(channel.ask(query(i)) for i in range(9)))

    for i, reply in enumerate(asyncio.run(main())):
        np.testing.assert_array_equal(reply.chunk.actions, answer(query(i)))


def test_sends_a_query_too_large_for_a_block_through_the_socket(address):
    large = query(3, size=700, cameras=3)

    async def main():
        channel = await ShmChannel.open(address, query())
        return await asyncio.gather(channel.ask(large), channel.ask(query(1)))

    of_large, of_small = asyncio.run(main())
    np.testing.assert_array_equal(of_large.chunk.actions, answer(large))
    np.testing.assert_array_equal(of_small.chunk.actions, answer(query(1)))


def test_an_env_actor_that_does_not_read_delays_no_other_and_loses_no_reply():
    long = Reply(Chunk(np.zeros((1000, 32), np.float32)))
    server = ShmServer(lambda asked, done, _: done(long))

    async def main():
        stuck, other = [await ShmChannel.open(server.open(), query()) for _ in range(2)]
        descriptor = stuck._messages.socket.fileno()
        asyncio.get_running_loop().remove_reader(descriptor)
        waiting = [asyncio.create_task(stuck.ask(query(i))) for i in range(20)]  # 2.5 MB of replies.
        for i in range(20):
            await asyncio.wait_for(other.ask(query(i)), 60)
        assert not any(task.done() for task in waiting)
        asyncio.get_running_loop().add_reader(descriptor, stuck._read)
        return await asyncio.wait_for(asyncio.gather(*waiting), 60)

    assert len(asyncio.run(main())) == 20
    server.close()


def test_tells_for_how_long_a_query_waited_while_the_server_took_in_others():
    waits = {}

    def put_slowly(asked, done, waited_s):
        waits[asked.key] = waited_s
        time.sleep(0.1)
        done(echo(asked))

    server = ShmServer(put_slowly)

    async def main():
        channel = await ShmChannel.open(server.open(), query())
        await asyncio.gather(*(channel.ask(query(i)) for i in range(3)))
        channel.close()

    asyncio.run(main())
    server.close()
    assert waits[0] < 0.05
    assert 0.05 < waits[1] < waits[2] - 0.05


def test_a_malformed_message_closes_its_own_connection_only(address):
    async def main():
        bad, good = [await ShmChannel.open(address, query()) for _ in range(2)]
        bad._messages.send(b"nonsense")
        with pytest.raises(PolicyDisconnected):
            await bad.ask(query())
        return await good.ask(query(1))

    np.testing.assert_array_equal(asyncio.run(main()).chunk.actions, answer(query(1)))


def test_raises_the_type_and_text_of_an_error_that_cannot_be_pickled():
    class Unportable(Exception):
        def __reduce__(self):
            raise TypeError("cannot be pickled")

    server = ShmServer(lambda asked, done, _: done(Unportable("no such state")))

    async def main():
        channel = await ShmChannel.open(server.open(), query())
        with pytest.raises(PolicyError, match="Unportable: no such state"):
            await channel.ask(query(1))

    asyncio.run(main())
    server.close()


def test_an_answer_that_cannot_be_pickled_is_an_error_of_the_policy():
    reply = Reply(Chunk(np.zeros((1, 1), np.float32)))
    object.__setattr__(reply, "chunk", threading.Lock())
    server = ShmServer(lambda asked, done, _: done(reply))

    async def main():
        channel = await ShmChannel.open(server.open(), query())
        with pytest.raises(PolicyError, match="cannot pickle"):
            await asyncio.wait_for(channel.ask(query(1)), 60)

    asyncio.run(main())
    server.close()


WORKER = """
import os, time
from simloop.harness.serving.shm_server import ShmServer

print(repr(ShmServer(lambda query, done, _: os._exit(9)).open()), flush=True)
time.sleep(300)
"""


def test_a_worker_that_dies_disconnects_all_queries_and_leaves_nothing_behind():
    process = subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True)
    address = eval(process.stdout.readline())  # The literal that it printed.

    async def main():
        channel = await ShmChannel.open(address, query())
        asked = [asyncio.create_task(channel.ask(query(i))) for i in range(3)]
        done, _ = await asyncio.wait(asked, timeout=120)
        assert len(done) == 3
        assert {type(task.exception()) for task in done} == {PolicyDisconnected}
        assert not channel.alive
        with pytest.raises(PolicyDisconnected):
            await channel.ask(query(9))

    asyncio.run(main())
    assert process.wait(60) == 9
    process.stdout.close()
    with socket.socket(socket.AF_UNIX) as caller, pytest.raises(ConnectionRefusedError):
        caller.connect(address)


def test_the_server_refuses_other_users(monkeypatch, address):
    class Evil:
        def __reduce__(self):
            return (os.abort, ())

    def call() -> None:
        caller.send(pickle.dumps(Evil()))
        caller.recv(1)

    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(address)
        caller.settimeout(60)
        with pytest.raises(ConnectionError):  # Hung up on, with what was sent unread.
            call()


def test_the_channel_refuses_a_server_of_another_user(monkeypatch, address):
    async def main():
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        with pytest.raises(PermissionError, match="belongs to user"):
            await ShmChannel.open(address, query())

    asyncio.run(main())
