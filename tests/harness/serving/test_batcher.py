import asyncio
import queue
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simloop.harness.serving import batcher as batcher_module
from simloop.harness.serving.batcher import Batcher
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.policies.interface import Chunk, InferenceResult, PolicyError, Query


def query(number: int) -> Query:
    return Query(task="t", instruction="i", key=number, state=np.zeros(1, np.float32))


def answer_with_keys(queries) -> InferenceResult:
    chunks = [Chunk(np.full((1, 1), q.key, np.float32)) for q in queries]
    return InferenceResult(chunks, host_s=0.1, device_s=0.2, post_s=0.3)


class Scripted(StubPolicy):
    """Answers with a function of the test."""

    def __init__(self, infer):
        super().__init__(Stub())
        self._infer = infer

    def infer(self, queries, batch_size):
        return self._infer(queries)


def run(batch_sizes, infer, scenario):
    async def main():
        batcher = Batcher(infer if isinstance(infer, StubPolicy) else Scripted(infer), batch_sizes)
        try:
            return await scenario(batcher)
        finally:
            batcher.close()

    return asyncio.run(main())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 7))
def test_every_query_gets_its_own_reply_in_any_order_of_arrival(pauses, batch_size):
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

    replies = run([batch_size], infer, scenario)
    assert [reply.chunk.actions.item() for reply in replies] == list(range(len(pauses)))
    assert max(sizes) <= batch_size
    assert sum(sizes) == len(pauses)
    assert {reply.batch_size for reply in replies} == {batch_size}


def test_queries_that_arrive_during_a_call_share_the_next():
    release, sizes = threading.Event(), []

    def infer(queries):
        sizes.append(len(queries))
        release.wait(60)
        return answer_with_keys(queries)

    async def scenario(batcher):
        first = asyncio.create_task(batcher.ask(query(0)))
        while not sizes:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(batcher.ask(query(i))) for i in range(1, 6)]
        while batcher.load().waiting < 5:
            await asyncio.sleep(0.001)
        release.set()
        return await asyncio.gather(first, *rest), batcher.load()

    replies, load = run([4], infer, scenario)
    assert sizes == [1, 4, 1]
    assert [reply.batch for reply in replies] == [1, 4, 4, 4, 4, 1]
    assert {reply.batch_size for reply in replies} == {4}
    assert replies[1].queue_s > 0
    assert (load.batches, load.rows, load.places, load.waiting) == (3, 6, 12, 0)


def test_encodes_and_stacks_the_next_batch_while_the_model_runs():
    began, release = threading.Event(), threading.Event()
    steps = []

    class Watched(Scripted):
        def encode(self, query):
            steps.append(("encode", query.key))
            return query

        def assemble(self, rows, batch_size):
            steps.append(("assemble", [row.key for row in rows]))
            return list(rows), batch_size

        def run(self, batch):
            steps.append(("run", [row.key for row in batch[0]]))
            began.set()
            release.wait(60)
            return answer_with_keys(batch[0])

    async def scenario(batcher):
        first = asyncio.create_task(batcher.ask(query(0)))
        await asyncio.to_thread(began.wait, 60)
        rest = [asyncio.create_task(batcher.ask(query(i))) for i in (1, 2, 3)]
        while ("assemble", [1, 2]) not in steps or ("encode", 3) not in steps:
            await asyncio.sleep(0.001)
        assert ("run", [1, 2]) not in steps, "the model is still at work"
        release.set()
        return await asyncio.gather(first, *rest)

    replies = run([2], Watched(None), scenario)
    assert [reply.chunk.actions.item() for reply in replies] == [0, 1, 2, 3]
    assert [step for step in steps if step[0] == "run"] == [("run", [0]), ("run", [1, 2]), ("run", [3])]


def test_uses_the_smallest_batch_size_that_holds_the_waiting_queries():
    release, sizes = threading.Event(), []

    def infer(queries):
        sizes.append(len(queries))
        release.wait(60)
        return answer_with_keys(queries)

    async def scenario(batcher):
        first = asyncio.create_task(batcher.ask(query(0)))
        while not sizes:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(batcher.ask(query(i))) for i in range(1, 4)]
        while batcher.load().waiting < 3:
            await asyncio.sleep(0.001)
        release.set()
        return await asyncio.gather(first, *rest)

    replies = run([1, 4, 8], infer, scenario)
    assert [(reply.batch, reply.batch_size) for reply in replies] == [(1, 1), (3, 4), (3, 4), (3, 4)]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "answered with None; wanted an InferenceResult"),
        (InferenceResult([]), "answered with 0 chunks; wanted 1, one per query"),
        (InferenceResult([Chunk(np.zeros((10, 4), np.float32))] * 2), "answered with 2 chunks; wanted 1"),
    ],
    ids=["none", "too few", "too many"],
)
def test_a_malformed_answer_fails_its_own_query_only(answer, text):
    async def scenario(batcher):
        with pytest.raises(PolicyError, match=f"Policy 'stub' {text}"):
            await asyncio.wait_for(batcher.ask(query(1)), 60)
        return await asyncio.wait_for(batcher.ask(query(2)), 60)

    class Malformed(StubPolicy):
        def run(self, batch):
            return answer if batch[0][0].key == 1 else super().run(batch)

    assert run([1], Malformed(Stub()), scenario).chunk.actions.shape == (10, 4)


@pytest.mark.parametrize(
    "raised", [SystemExit(3), KeyboardInterrupt(), StopIteration(), GeneratorExit()], ids=repr
)
@pytest.mark.parametrize("part", ["encode", "assemble", "run"])
@pytest.mark.parametrize("local", [False, True])
def test_a_policy_that_exits_fails_its_own_query_only(raised, part, local):
    class Exiting(StubPolicy):
        pass

    def exiting(self, argument, *rest):
        if not failed:
            failed.append(part)
            raise raised
        return getattr(StubPolicy, part)(self, argument, *rest)

    failed = []
    setattr(Exiting, part, exiting)
    batcher, outcomes = Batcher(Exiting(Stub()), [1]), queue.SimpleQueue()
    for number in range(2):
        batcher.put(query(number), outcomes.put, encode_here=local)
        outcome = outcomes.get(timeout=60)
        if number == 0:
            assert isinstance(outcome, PolicyError)
            assert f"Policy 'stub' raised {type(raised).__name__}" in str(outcome)
    assert outcome.chunk.actions.shape == (10, 4)
    batcher.close()


class Clock:
    """Time that passes when the policy says so."""

    now = 0.0

    def perf_counter(self):
        return self.now


class Timed(Scripted):
    """Encodes a query in 1 s, assembles a batch in 2 s, and runs it in 8 s: 3 s host, 4 s device and 1 s post."""

    def __init__(self, clock):
        super().__init__(None)
        self.clock = clock
        self.may_run = threading.Event()

    def encode(self, query):
        self.clock.now += 1.0
        return query

    def assemble(self, rows, batch_size):
        self.clock.now += 2.0
        return list(rows), batch_size

    def run(self, batch):
        self.may_run.wait(60)
        self.clock.now += 8.0
        return replace(answer_with_keys(batch[0]), host_s=3.0, device_s=4.0, post_s=1.0)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_second_from_arrival_to_answer_is_in_one_stage_for_full_and_partial_batches(
    monkeypatch, batch_size
):
    clock = Clock()
    monkeypatch.setattr(batcher_module, "time", clock)
    policy = Timed(clock)
    policy.may_run.set()

    async def scenario(batcher):
        return await batcher.ask(query(0))

    reply = run([batch_size], policy, scenario)
    assert (reply.queue_s, reply.host_s, reply.device_s, reply.post_s) == (0.0, 1.0 + 2.0 + 3.0, 4.0, 1.0)
    assert reply.stages_s == clock.now


def test_waiting_for_the_model_and_for_other_rows_is_queue(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(batcher_module, "time", clock)
    policy = Timed(clock)

    async def scenario(batcher):
        asking = [asyncio.create_task(batcher.ask(query(0)))]
        while batcher.load().running_for_s == 0.0 or batcher.load().waiting:
            await asyncio.sleep(0.001)
        for number in (1, 2, 3):
            asking.append(asyncio.create_task(batcher.ask(query(number))))
            while clock.now < 3.0 + number:
                await asyncio.sleep(0.001)
        while clock.now < 3.0 + 3 + 2:  # The full batch 1, 2 is assembled while the model runs.
            await asyncio.sleep(0.001)
        policy.may_run.set()
        return await asyncio.gather(*asking)

    first, *others = run([2], policy, scenario)
    assert (first.host_s, first.queue_s) == (1.0 + 2.0 + 3.0, 0.0)
    assert [reply.host_s for reply in others] == [1.0 + 2.0 + 3.0] * 3
    assert others[0].queue_s > others[1].queue_s > 0
    assert others[2].queue_s > others[0].queue_s
    assert min(reply.device_s for reply in others) == 4.0


@pytest.mark.parametrize("part", ["encode", "assemble", "run"])
def test_a_failing_call_fails_its_own_queries_only(part):
    class Failing(StubPolicy):
        pass

    def failing(self, argument, *rest):
        keys = [argument.key] if part == "encode" else [q.key for q in _queries(argument)]
        if 1 in keys:
            raise ValueError("bad query")
        return getattr(StubPolicy, part)(self, argument, *rest)

    def _queries(argument):
        return argument[0] if isinstance(argument, tuple) else argument

    setattr(Failing, part, failing)

    async def scenario(batcher):
        good = await batcher.ask(query(0))
        with pytest.raises(ValueError, match="bad query"):
            await batcher.ask(query(1))
        return good, await batcher.ask(query(2))

    good, later = run([1], Failing(Stub()), scenario)
    wanted = StubPolicy(Stub()).infer([query(0), query(2)], 2).chunks
    np.testing.assert_array_equal(good.chunk.actions, wanted[0].actions)
    np.testing.assert_array_equal(later.chunk.actions, wanted[1].actions)


def test_reports_the_age_of_the_oldest_query_that_is_not_answered(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(batcher_module, "time", clock)
    policy = Timed(clock)

    async def scenario(batcher):
        assert batcher.load().oldest_s == 0.0
        first = asyncio.create_task(batcher.ask(query(0)))
        while clock.now < 3.0:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(batcher.ask(query(1)))
        while clock.now < 4.0:
            await asyncio.sleep(0.001)
        clock.now += 100.0
        assert batcher.load().oldest_s == 104.0
        policy.may_run.set()
        await asyncio.gather(first, second)
        return batcher.load().oldest_s

    assert run([8], policy, scenario) == 0.0


def test_reports_the_time_of_a_running_call():
    release, running = threading.Event(), threading.Event()

    def infer(queries):
        running.set()
        release.wait(60)
        return replace(answer_with_keys(queries))

    async def scenario(batcher):
        asking = asyncio.create_task(batcher.ask(query(0)))
        await asyncio.to_thread(running.wait, 60)
        time.sleep(0.02)
        seen = batcher.load().running_for_s
        release.set()
        await asking
        return seen, batcher.load()

    seen, after = run([1], infer, scenario)
    assert seen >= 0.02
    assert after.busy_s >= seen
    assert after.longest_s >= seen
