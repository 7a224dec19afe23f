"""Workers never wait for GPUs that they cannot get."""

import pytest

from simloop.harness.engine.gpu_allocation import WorkerGpus
from simloop.harness.engine.resources import EngineError


@pytest.mark.parametrize(
    ("machines", "policies", "most", "share"),
    [((), 2, 1, 0.0), ((1,), 1, 1, 1.0), ((1,), 3, 1, 0.5), ((2, 2), 2, 4, 0.5)],
)
def test_single_gpus_are_shared_with_the_policy_that_comes_next(machines, policies, most, share):
    gpus = WorkerGpus(machines, policies)
    gpus.check()
    gpus.check_in_turns()
    assert (gpus.most_workers, gpus.share) == (most, share)


def test_workers_of_several_gpus_lie_on_one_machine_and_leave_room_for_the_next_policy():
    assert WorkerGpus((3, 3), 1, per_worker=2).most_workers == 2, "not three of six"
    both = WorkerGpus((4,), 2, per_worker=2)
    both.check()
    both.check_in_turns()
    assert (both.most_workers, both.ahead, both.share) == (1, 1, 2)
    one_after_the_other = WorkerGpus((2,), 2, per_worker=2)
    one_after_the_other.check()
    assert (one_after_the_other.most_workers, one_after_the_other.ahead) == (1, 0)
    with pytest.raises(EngineError, match="two workers of 2 GPUs; there is room for 1"):
        one_after_the_other.check_in_turns()


def test_what_cannot_be_had_is_refused_before_anybody_waits():
    WorkerGpus((), 0, per_worker=2).check()  # Scripted policies want none.
    for machines, workers, wanted in (((), None, 1), ((1, 1), None, 1), ((8,), 3, 6)):
        gpus = WorkerGpus(machines, 2, per_worker=2, workers=workers)
        with pytest.raises(EngineError, match=rf"Workers at a time: {wanted}, .* Ask for no more"):
            gpus.check()
