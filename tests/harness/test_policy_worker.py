"""What a policy worker asks of whoever loads its policy."""

import asyncio
import threading

import pytest

from harness.policy_worker import PolicyWorker
from harness.sources import Sources
from harness.stub_policy import Stub, StubPolicy
from policies.interface import Preparation
from policies.scripted import scripted_policy


@pytest.mark.parametrize(("devices", "wanted"), [(1, {}), (2, {"devices": 2})])
def test_a_policy_is_spread_over_the_devices_of_its_worker(devices, wanted):
    told = []

    def load(name, **options):
        told.append((name, options))
        return scripted_policy("hold")

    async def prepared():
        worker = PolicyWorker("somebody", (1,), Sources(policy=load), devices)
        try:
            return await worker.prepare()
        finally:
            worker._batcher.close()
            worker._desk.close()

    report = asyncio.run(prepared())
    assert told == [("somebody", wanted)]
    assert report.buckets == (1,)


def test_it_says_what_it_does_and_for_how_long_until_it_can_answer(monkeypatch):
    monkeypatch.setattr("harness.policy_worker.this_node", lambda: "here")
    here, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def pause():
        here.release()
        assert go_on.acquire(timeout=30)

    class Slow(StubPolicy):
        def prepare(self, bucket, told=None):
            for done in range(3):
                told(Preparation(done, 2, ("one", "other")[done:], 41.4))
                pause()
            return 1.0

    def load(name):
        pause()
        return Slow(Stub())

    async def healths():
        worker = PolicyWorker("somebody", (1,), Sources(policy=load))
        preparing = asyncio.ensure_future(worker.prepare())
        seen = []
        try:
            for _ in range(4):
                assert await asyncio.to_thread(here.acquire, timeout=30)
                seen.append(await worker.health())
                go_on.release()
            await preparing
            return [*seen, await worker.health()]
        finally:
            worker._batcher.close()
            worker._desk.close()

    seen = asyncio.run(healths())
    assert [health.doing for health in seen] == [
        "loading weights, 0 s",
        "compiling, 0 of 2 programs done, 41 s",
        "compiling, 1 of 2 programs done, 41 s",
        "compiling, 2 of 2 programs done, 41 s",
        "",
    ]
    steps = [health.steps for health in seen]
    assert steps == sorted(set(steps)), "every one is a step further"
    assert [health.prepared for health in seen] == [False] * 4 + [True]
