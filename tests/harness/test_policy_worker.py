"""What a policy worker asks of whoever loads its policy."""

import asyncio

import pytest

from harness.policy_worker import PolicyWorker
from harness.sources import Sources
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
