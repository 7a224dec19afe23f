"""Inference plans that a policy worker passes to the loader of its policy."""

import asyncio
import threading

from simloop.harness.actors.factories import Factories
from simloop.harness.actors.policy_worker import PolicyWorker
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.policies.interface import CompilationProgress, batched
from simloop.policies.kernels import Kernels
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.scripted import scripted_policy

PLAN = InferencePlan(devices=3, kernels=Kernels(prompt_attention="cudnn"))


def test_loads_its_policy_with_the_options_it_was_given():
    loaded = []

    def load(name, plan):
        loaded.append((name, plan))
        return batched(scripted_policy("hold"))

    async def prepare():
        worker = PolicyWorker("pi0", (2, 1), Factories(policy=load), PLAN)
        try:
            return await worker.prepare()
        finally:
            worker._batcher.close()
            worker._shm_server.close()

    report = asyncio.run(prepare())
    assert loaded == [("pi0", PLAN)]
    assert report.kernels is None


def test_it_says_what_it_does_and_for_how_long_until_it_can_answer(monkeypatch):
    monkeypatch.setattr("simloop.harness.actors.policy_worker.this_node", lambda: "here")
    here, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def pause():
        here.release()
        assert go_on.acquire(timeout=30)

    class Slow(StubPolicy):
        def prepare(self, batch_size, on_progress=None):
            for done in range(3):
                on_progress(CompilationProgress(done, 2, ("one", "other")[done:], 41.4))
                pause()
            return 1.0

    def load(name, serving):
        pause()
        return Slow(Stub())

    async def healths():
        worker = PolicyWorker("mine", (1,), Factories(policy=load))
        preparing = asyncio.ensure_future(worker.prepare())
        seen = []
        try:
            for _ in range(4):
                assert await asyncio.to_thread(here.acquire, timeout=30)
                seen.append(await worker.heartbeat())
                go_on.release()
            await preparing
            return [*seen, await worker.heartbeat()]
        finally:
            worker._batcher.close()
            worker._shm_server.close()

    seen = asyncio.run(healths())
    assert [heartbeat.doing for heartbeat in seen] == [
        "loading weights, 0 s",
        "compiling, 0 of 2 programs done, 41 s",
        "compiling, 1 of 2 programs done, 41 s",
        "compiling, 2 of 2 programs done, 41 s",
        "",
    ]
    steps = [heartbeat.steps for heartbeat in seen]
    assert steps == sorted(set(steps)), "every one is a step further"
    assert [heartbeat.prepared for heartbeat in seen] == [False] * 4 + [True]
