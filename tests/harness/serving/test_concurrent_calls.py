import asyncio
import threading
import time

import numpy as np
import pytest

from simloop.harness.serving.batcher import Batcher
from simloop.harness.serving.concurrent_calls import ConcurrentCalls, answering
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.policies.interface import Chunk, InferenceResult, Query


def query(number: int) -> Query:
    return Query(task="t", instruction="i", key=number, state=np.zeros(1, np.float32))


class Waiting(StubPolicy):
    """Waits for something else, as the client of a server does."""

    def __init__(self, calls: int):
        super().__init__(Stub())
        self.concurrent_calls = calls
        self.running = self.most = 0
        self._lock = threading.Lock()

    def infer(self, queries, batch_size):
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.02)
        with self._lock:
            self.running -= 1
        (one,) = queries
        if one.key == 13:
            raise ValueError("unlucky")
        return InferenceResult(
            [Chunk(np.full((1, 1), one.key, np.float32))], device_s=0.01, queue_s=0.004, retry_s=0.001
        )


def answers(policy: Waiting, numbers: range) -> tuple[list, ConcurrentCalls]:
    async def main():
        calls = ConcurrentCalls(policy)
        try:
            return await asyncio.gather(
                *(calls.ask(query(n)) for n in numbers), return_exceptions=True
            ), calls
        finally:
            calls.close()

    return asyncio.run(main())


def test_every_query_gets_its_own_reply_from_as_many_calls_as_the_policy_allows():
    policy = Waiting(3)
    replies, calls = answers(policy, range(12))

    assert [reply.chunk.actions.item() for reply in replies] == list(range(12))
    assert policy.most == 3
    load = calls.load()
    assert load.batches == load.rows == load.places == 12
    assert load.waiting == 0
    assert 0.07 < load.busy_s < 1
    assert load.running_for_s == 0


def test_the_stages_of_a_reply_are_those_that_the_policy_reports():
    (reply,), _ = answers(Waiting(1), range(1))

    assert reply.queue_s >= 0.004
    assert reply.retry_s == pytest.approx(0.001)
    assert reply.device_s > 0.01


def test_an_error_is_that_of_its_query_alone():
    replies, _ = answers(Waiting(2), range(12, 15))

    assert [type(reply).__name__ for reply in replies] == ["Reply", "ValueError", "Reply"]


def test_policies_that_answer_in_batches_get_batches():
    batcher = answering(StubPolicy(Stub()), (4,))
    batcher.close()

    assert isinstance(batcher, Batcher)
