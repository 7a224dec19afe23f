import pytest

from simloop.harness.serving.batch_sizes import FULL, choose, device_memory_share, fastest
from simloop.harness.serving.stub_policy import Stub, StubPolicy


class Device(StubPolicy):
    """Needs a base time and a time per row, on its own clock, and memory per row."""

    def __init__(self, base_s: float, row_s: float, most_rows: int = 10**6, memory_rows: int = 10**6):
        super().__init__(Stub())
        self._base_s, self._row_s, self._most, self._memory = base_s, row_s, most_rows, memory_rows
        self.now, self.share = 0.0, 0.0
        self.compiled = []

    def prepare(self, batch_size, on_progress=None):
        if batch_size > self._most:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12 GiB.")
        took = self._base_s + self._row_s * batch_size
        if batch_size not in self.compiled:
            self.compiled.append(batch_size)
            took += 10.0
        self.share = batch_size / self._memory
        self.now += took
        return took

    def choose(self, *candidates):
        return choose(self, candidates, lambda: self.share, lambda: self.now)[0]


def test_keeps_a_larger_batch_size_only_if_it_answers_more_queries_per_second():
    assert fastest({1: 1.0, 2: 1.1, 4: 2.0, 8: 8.0}) == (1, 2, 4)
    assert fastest({1: 1.0, 2: 2.0, 4: 4.0}) == (1,), "a CPU gains nothing from batches"
    assert fastest({1: 1.0, 2: 2.5, 4: 3.0}) == (1, 4)
    assert Device(0.02, 0.001).choose(1, 2, 4, 8, 16, 32) == (1, 2, 4, 8, 16, 32)
    assert Device(0.001, 0.02).choose(1, 2, 4, 8, 16, 32) == (1,)


def test_returns_compile_time_apart_from_call_time():
    device = Device(0.02, 0.001)
    batch_sizes, compile_s = choose(device, (1, 4), lambda: None, lambda: device.now)
    assert batch_sizes == (1, 4)
    assert compile_s == pytest.approx(20.0, abs=0.1)


def test_stops_when_the_memory_of_the_device_is_full():
    device = Device(0.02, 0.001, most_rows=8)
    assert device.choose(4, 8, 16, 32) == (4, 8), "batches that do not fit are left out"
    device = Device(0.02, 0.001, memory_rows=round(16 / FULL) - 1)
    assert device.choose(4, 8, 16, 32) == (4, 8, 16)
    assert device.compiled == [4, 8, 16], "the next is not even tried"


def test_raises_errors_of_the_smallest_batch_size():
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        Device(0.02, 0.001, most_rows=2).choose(4, 8)

    class Broken(Device):
        def prepare(self, batch_size, on_progress=None):
            if batch_size == 8:
                raise ValueError("no such shape")
            return super().prepare(batch_size, on_progress)

    with pytest.raises(ValueError, match="no such shape"):
        Broken(0.02, 0.001).choose(4, 8)


def test_uses_a_single_candidate_without_measuring():
    device = Device(0.001, 0.02)
    assert device.choose(16) == (16,)
    assert device.now < 11, "a measurement may take minutes on a CPU"


def test_cpus_report_no_memory():
    assert device_memory_share() is None
