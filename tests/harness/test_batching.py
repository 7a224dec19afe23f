"""Queries of many episodes in one call."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.batching import Batcher
from policies.interface import Answer, Chunk, Query


def query(number: int) -> Query:
    return Query(task="t", instruction="i", key=number, state=np.zeros(1, np.float32))


def answer_with_keys(queries) -> Answer:
    return Answer(
        [Chunk(np.full((1, 1), q.key, np.float32)) for q in queries], host_s=0.1, device_s=0.2, post_s=0.3
    )


def run(bucket, infer, scenario):
    async def main():
        with ThreadPoolExecutor(1) as executor:
            return await scenario(Batcher(infer, bucket, executor))

    return asyncio.run(main())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 7))
def test_every_query_gets_its_own_answer_whatever_the_order_of_arrival(pauses, bucket):
    sizes = []

    def infer(queries):
        sizes.append(len(queries))
        return answer_with_keys(queries)

    async def ask(batcher, number, pause):
        for _ in range(pause):
            await asyncio.sleep(0)
        return await batcher.ask(query(number))

    async def scenario(batcher):
        return await asyncio.gather(*(ask(batcher, i, pause) for i, pause in enumerate(pauses)))

    replies = run(bucket, infer, scenario)
    assert [reply.chunk.actions.item() for reply in replies] == list(range(len(pauses)))
    assert max(sizes) <= bucket
    assert sum(sizes) == len(pauses)


def test_queries_that_wait_while_the_model_works_share_the_next_call():
    release, sizes = threading.Event(), []

    def infer(queries):
        sizes.append(len(queries))
        release.wait(10)
        return answer_with_keys(queries)

    async def scenario(batcher):
        first = asyncio.create_task(batcher.ask(query(0)))
        while not sizes:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(batcher.ask(query(i))) for i in range(1, 6)]
        await asyncio.sleep(0.01)
        release.set()
        return await asyncio.gather(first, *rest)

    replies = run(4, infer, scenario)
    assert sizes == [1, 4, 1]
    assert [reply.batch for reply in replies] == [1, 4, 4, 4, 4, 1]
    assert {reply.bucket for reply in replies} == {4}
    assert replies[1].queue_s > 0
    assert (replies[1].host_s, replies[1].device_s, replies[1].post_s) == (0.1, 0.2, 0.3)


def test_a_failing_call_fails_its_queries_and_no_others():
    def infer(queries):
        if any(q.key == 1 for q in queries):
            raise ValueError("bad query")
        return answer_with_keys(queries)

    async def scenario(batcher):
        good = await batcher.ask(query(0))
        with pytest.raises(ValueError, match="bad query"):
            await batcher.ask(query(1))
        return good, await batcher.ask(query(2))

    good, later = run(1, infer, scenario)
    assert good.chunk.actions.item() == 0
    assert later.chunk.actions.item() == 2
