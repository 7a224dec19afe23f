"""Queries and replies between two processes of one machine."""

import asyncio
import os
import pickle
import socket
import subprocess
import sys
from threading import Timer

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simloop.harness.rollout.loop import Reply
from simloop.harness.serving import shm_channel
from simloop.harness.serving.shm_channel import ChannelClosed, Damaged, ShmChannel
from simloop.harness.serving.shm_server import ShmServer
from simloop.policies.interface import Chunk, Query


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
    """Everything that came, as numbers."""
    parts = [query.state, *(image.astype(np.float32).ravel() for image in query.images.values())]
    return Reply(Chunk(np.concatenate([*parts, [query.key]]).astype(np.float32)[None]))


def on_progress(query: Query) -> np.ndarray:
    return echo(query).chunk.actions


def put(query: Query, done) -> None:
    done(echo(query))


@pytest.fixture
def shm_server():
    made = ShmServer(put)
    yield made.open()
    made.close()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=20)
)
def test_every_query_arrives_whole_and_gets_its_own_answer_in_any_order(shapes):
    queries = [query(*shape) for shape in shapes]  # Some larger than the first, for which blocks are made.

    shm_server = ShmServer(lambda asked, done: Timer((asked.key % 4) / 1e3, lambda: put(asked, done)).start())

    async def main():
        line = await ShmChannel.open(shm_server.open(), queries[0])
        answers = await asyncio.gather(*(line.ask(q) for q in queries))
        line.close()
        return answers

    for asked, (reply, spent_s, _) in zip(queries, asyncio.run(main()), strict=True):
        np.testing.assert_array_equal(reply.chunk.actions, on_progress(asked))
        assert spent_s >= 0


def test_images_travel_once_through_memory_and_not_through_the_socket(shm_server):
    written = []

    async def main():
        line = await ShmChannel.open(shm_server, query(size=64))
        send = line._messages._send
        line._messages._send = lambda data: (written.append(len(data)), send(data))[1]
        await line.ask(query(size=64))
        return line.bytes_sent

    images = 2 * 64 * 64 * 3
    assert images <= asyncio.run(main()) < images + 100
    assert sum(written) < 1500


def test_more_queries_than_blocks_are_answered_too(monkeypatch, shm_server):
    monkeypatch.setattr(shm_channel, "BLOCKS", 2)

    async def main():
        line = await ShmChannel.open(shm_server, query())
        return await asyncio.gather(*(line.ask(query(i)) for i in range(9)))

    for i, (reply, _, _) in enumerate(asyncio.run(main())):
        np.testing.assert_array_equal(reply.chunk.actions, on_progress(query(i)))


def test_a_query_too_large_for_a_block_travels_through_the_socket_piece_by_piece(shm_server):
    large = query(3, size=700, cameras=3)

    async def main():
        line = await ShmChannel.open(shm_server, query())
        return await asyncio.gather(line.ask(large), line.ask(query(1)))

    (reply, *_), (small, *_) = asyncio.run(main())
    np.testing.assert_array_equal(reply.chunk.actions, on_progress(large))
    np.testing.assert_array_equal(small.chunk.actions, on_progress(query(1)))


def test_a_simulator_that_does_not_read_its_answers_holds_up_nobody_else_and_loses_none():
    long = Reply(Chunk(np.zeros((1000, 32), np.float32)))
    shm_server = ShmServer(lambda asked, done: done(long))

    async def main():
        stuck, other = [await ShmChannel.open(shm_server.open(), query()) for _ in range(2)]
        descriptor = stuck._messages.socket.fileno()
        asyncio.get_running_loop().remove_reader(descriptor)
        waiting = [asyncio.create_task(stuck.ask(query(i))) for i in range(20)]  # 2.5 MB of answers.
        for i in range(20):
            await asyncio.wait_for(other.ask(query(i)), 60)
        assert not any(task.done() for task in waiting)
        asyncio.get_running_loop().add_reader(descriptor, stuck._read)
        return await asyncio.wait_for(asyncio.gather(*waiting), 60)

    assert len(asyncio.run(main())) == 20
    shm_server.close()


def test_nonsense_from_one_simulator_is_the_end_of_its_line_alone(shm_server, capfd):
    async def main():
        bad, good = [await ShmChannel.open(shm_server, query()) for _ in range(2)]
        bad._messages.send(b"nonsense")
        with pytest.raises(ChannelClosed):
            await bad.ask(query())
        return await good.ask(query(1))

    np.testing.assert_array_equal(asyncio.run(main())[0].chunk.actions, on_progress(query(1)))
    assert "UnpicklingError" in capfd.readouterr().err


def test_what_answering_raises_is_raised_where_it_was_asked():
    class Unportable(Exception):
        def __reduce__(self):
            raise TypeError("cannot travel")

    def refuse(asked: Query, done) -> None:
        done(ValueError("no such camera") if asked.key == 0 else Unportable("no such state"))

    async def main():
        line = await ShmChannel.open(ShmServer(refuse).open(), query())
        with pytest.raises(ValueError, match="no such camera"):
            await line.ask(query(0))
        with pytest.raises(RuntimeError, match="Unportable: no such state"):
            await line.ask(query(1))

    asyncio.run(main())


@given(st.integers(0, 2 * 32 * 32 * 3 + 16 - 1), st.integers(1, 255))
@settings(max_examples=30, deadline=None)
def test_a_byte_that_changes_on_the_way_is_noticed(place, flip):
    shm_server = ShmServer(put).open()

    async def main():
        line = await ShmChannel.open(shm_server, query())
        write = line._write

        def damage(asked, block):
            on_progress = write(asked, block)
            line._memory[block * line._block + place] ^= flip
            return on_progress

        line._write = damage
        with pytest.raises(Damaged):
            await line.ask(query(1))
        line._write = write
        await line.ask(query(1))
        line.close()

    asyncio.run(main())


WORKER = """
import os, time
from simloop.harness.serving.shm_server import ShmServer

print(repr(ShmServer(lambda query, done: os._exit(9)).open()), flush=True)
time.sleep(300)
"""


def test_a_worker_that_dies_is_noticed_by_all_who_wait_and_leaves_nothing_behind():
    process = subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True)
    address = eval(process.stdout.readline())  # The literal that it has printed.

    async def main():
        line = await ShmChannel.open(address, query())
        asked = [asyncio.create_task(line.ask(query(i))) for i in range(3)]
        done, _ = await asyncio.wait(asked, timeout=120)
        assert len(done) == 3
        assert {type(task.exception()) for task in done} == {ChannelClosed}
        assert not line.alive
        with pytest.raises(ChannelClosed):
            await line.ask(query(9))

    asyncio.run(main())
    assert process.wait(60) == 9
    process.stdout.close()
    with socket.socket(socket.AF_UNIX) as caller, pytest.raises(ConnectionRefusedError):
        caller.connect(address)


def test_strangers_are_not_listened_to(monkeypatch, shm_server):
    class Evil:
        def __reduce__(self):
            return (os.abort, ())

    def call() -> None:
        caller.send(pickle.dumps(Evil()))
        caller.recv(1)

    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(shm_server)
        caller.settimeout(60)
        with pytest.raises(ConnectionError):  # Hung up on, with what was sent unread.
            call()


def test_nobody_asks_a_strangers_desk(monkeypatch, shm_server):
    async def main():
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        with pytest.raises(PermissionError, match="belongs to user"):
            await ShmChannel.open(shm_server, query())

    asyncio.run(main())
