import asyncio

import numpy as np

from simloop.harness.rollout.latency import Reply
from simloop.harness.serving.policy_client import InProcessClient, LeastWaiting, PolicyClient
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.policies.interface import Chunk, Query

QUERY = Query("t", "i", 0, np.zeros(1, np.float32))
REPLY = Reply(Chunk(np.zeros((1, 1), np.float32)))


class Gated(PolicyClient):
    """Answers when the test opens the gate."""

    def __init__(self):
        self.asked = 0
        self.gate = asyncio.Event()

    async def ask(self, query):
        self.asked += 1
        await self.gate.wait()
        return REPLY


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


def test_balances_queries_under_way():
    async def main():
        slow, fast = Gated(), Gated()
        balancer = LeastWaiting([slow, fast])
        tasks = [asyncio.create_task(balancer.ask(QUERY)) for _ in range(4)]
        await settled()
        assert (slow.asked, fast.asked) == (2, 2)
        fast.gate.set()
        await settled()
        tasks += [asyncio.create_task(balancer.ask(QUERY)) for _ in range(3)]
        await settled()
        assert slow.asked == 2, "its queries are still under way"
        slow.gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_clients_may_be_replaced_while_queries_are_under_way():
    async def main():
        old, new = Gated(), Gated()
        balancer = LeastWaiting([old])
        task = asyncio.create_task(balancer.ask(QUERY))
        await settled()
        balancer.clients = [new]
        for client in (old, new):
            client.gate.set()
        assert await balancer.ask(QUERY) is REPLY
        assert await task is REPLY
        assert (old.asked, new.asked) == (1, 1)

    asyncio.run(main())


def test_a_policy_in_this_process_is_loaded_once_at_its_first_query():
    loaded = []

    def load():
        loaded.append(StubPolicy(Stub()))
        return loaded[-1]

    async def main():
        client = InProcessClient(load)
        assert not loaded
        await asyncio.gather(*(client.ask(QUERY) for _ in range(3)))

    asyncio.run(main())
    assert len(loaded) == 1
