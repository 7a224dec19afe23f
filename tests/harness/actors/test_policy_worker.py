"""What a policy worker asks of whoever loads its policy."""

import asyncio
import threading

from simloop.harness.actors.factories import Factories
from simloop.harness.actors.policy_worker import PolicyWorker
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.policies.interface import CompilationProgress, batched
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.kernels import Kernels
from simloop.policies.scripted import scripted_policy

CUDNN = Kernels(prompt_attention="cudnn")


def test_a_policy_is_told_how_it_is_to_answer():
    on_progress = []

    def load(name, serving):
        on_progress.append((name, serving))
        return batched(scripted_policy("hold"))

    async def prepared():
        worker = PolicyWorker("somebody", (2, 1), Factories(policy=load), devices=3)
        try:
            return await worker.prepare(CUDNN)
        finally:
            worker._batcher.close()
            worker._shm_server.close()

    report = asyncio.run(prepared())
    assert on_progress == [("somebody", InferencePlan(devices=3, kernels=CUDNN))]
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
        worker = PolicyWorker("somebody", (1,), Factories(policy=load))
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


def test_a_process_that_was_started_again_waits_until_it_is_told_its_kernels():
    on_progress = []

    def load(name, serving):
        on_progress.append(serving.kernels)
        return batched(scripted_policy("hold"))

    async def asked_too_early():
        worker = PolicyWorker("somebody", (1,), Factories(policy=load))
        try:
            asking = asyncio.ensure_future(worker._until_prepared())
            await asyncio.sleep(0.05)
            assert on_progress == []
            await worker.prepare(CUDNN)
            await asyncio.wait_for(asking, timeout=30)
        finally:
            worker._batcher.close()
            worker._shm_server.close()

    asyncio.run(asked_too_early())
    assert on_progress == [CUDNN]
