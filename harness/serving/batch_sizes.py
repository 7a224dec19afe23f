"""Choose the batch sizes of a policy by measurement, for `--throughput`.

Otherwise the batch size is part of the experiment: answers differ by rounding between programs for different batch
sizes, and a measurement does not give the same result every time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence

from simloop.policies.interface import BatchedPolicy, CompilationProgress

THROUGHPUT = (1, 2, 4, 8, 16, 32)
"""Batch sizes that `--throughput` measures."""
GAIN = 1.05
"""Factor by which a larger batch must answer more queries per second; otherwise it only makes them wait."""
FULL = 0.9
"""Share of the device's memory in use above which no larger batch size is tried: it may need twice the buffers."""


def choose(
    policy: BatchedPolicy,
    candidates: Sequence[int],
    memory_share: Callable[[], float | None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    on_progress: Callable[[CompilationProgress], None] | None = None,
) -> tuple[tuple[int, ...], float]:
    """Compile for the candidates in turn; returns the batch sizes to use, and the seconds that compilation took.

    Args:
      policy: The policy, which is asked to prepare itself.
      candidates: Batch sizes. A single candidate is used without a measurement.
      memory_share: Returns the peak share of the device's memory in use so far, or None if it is unknown.
      clock: Measures calls, in seconds.
      on_progress: Called with the progress of compilation.

    Raises:
      Exception: Any error of compiling for the smallest candidate.
    """
    if len(candidates) == 1:
        return tuple(candidates), policy.prepare(candidates[0], on_progress)
    memory_share = memory_share or device_memory_share
    compile_s, call_s = 0.0, {}
    for batch_size in sorted(candidates):
        try:
            compile_s += policy.prepare(batch_size, on_progress)
            began = clock()
            policy.prepare(batch_size)  # Compiled already: one call for each shape of query.
            call_s[batch_size] = clock() - began
        except Exception as error:
            if not call_s or not out_of_memory(error):
                raise
            break
        if (memory_share() or 0.0) > FULL:
            break
    return fastest(call_s), compile_s


def fastest(call_s: Mapping[int, float]) -> tuple[int, ...]:
    """Return the batch sizes that answer more queries per second than every smaller one.

    Args:
      call_s: Seconds that a call takes, by batch size.
    """
    chosen: list[int] = []
    best = 0.0
    for batch_size, seconds in sorted(call_s.items()):
        rate = batch_size / seconds if seconds > 0 else float("inf")
        if not chosen or rate >= GAIN * best:
            chosen.append(batch_size)
            best = rate
    return tuple(chosen)


def out_of_memory(error: Exception) -> bool:
    """Return whether the error says that a device ran out of memory."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def device_memory_share() -> float | None:
    """Return the peak memory share of the fullest device of this process; None if there are no counters (CPUs)."""
    if "jax" not in sys.modules:
        return None
    import jax

    shares = [
        stats["peak_bytes_in_use"] / stats["bytes_limit"]
        for device in jax.local_devices()
        if (stats := device.memory_stats()) and stats.get("bytes_limit")
    ]
    return max(shares, default=None)
