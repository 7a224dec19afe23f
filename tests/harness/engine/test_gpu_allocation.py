"""Allocation of GPUs to policy workers."""

import pytest

from simloop.harness.engine.gpu_allocation import GpuAllocation
from simloop.harness.engine.resources import EngineError


@pytest.mark.parametrize(
    ("nodes", "policies", "max_workers", "reserved"),
    [((), 2, 1, 0.0), ((1,), 1, 1, 1.0), ((1,), 3, 1, 0.5), ((2, 2), 2, 4, 0.5)],
)
def test_shares_single_gpus_with_the_next_policy(nodes, policies, max_workers, reserved):
    gpus = GpuAllocation(nodes, policies)
    gpus.check()
    gpus.check_alternating()
    assert (gpus.max_workers, gpus.gpus_reserved) == (max_workers, reserved)


def test_places_workers_with_several_gpus_on_one_node_and_leaves_room_for_the_next_policy():
    assert GpuAllocation((3, 3), 1, gpus_per_worker=2).max_workers == 2
    both = GpuAllocation((4,), 2, gpus_per_worker=2)
    both.check()
    both.check_alternating()
    assert (both.max_workers, both.ahead, both.gpus_reserved) == (1, 1, 2)
    one_after_the_other = GpuAllocation((2,), 2, gpus_per_worker=2)
    one_after_the_other.check()
    assert (one_after_the_other.max_workers, one_after_the_other.ahead) == (1, 0)
    with pytest.raises(EngineError, match="two workers with 2 GPUs each; there is room for 1"):
        one_after_the_other.check_alternating()


def test_rejects_more_workers_than_there_are_gpus_for():
    GpuAllocation((), 0, gpus_per_worker=2).check()  # Scripted policies need none.
    for nodes, workers, wanted in (((), None, 1), ((1, 1), None, 1), ((8,), 3, 6)):
        gpus = GpuAllocation(nodes, 2, gpus_per_worker=2, workers=workers)
        with pytest.raises(EngineError, match=rf"{wanted} workers with 2 GPUs .* Request no more"):
            gpus.check()
