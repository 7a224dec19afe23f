"""Which numbers of rows the calls of a policy have, where a run leaves that open: measured where it computes.

Only `--throughput` leaves it open. Otherwise the number is part of the experiment, since answers differ by rounding
between programs for different numbers of rows, and a measurement does not come out the same every time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence

from simloop.policies.interface import BatchedPolicy, CompilationProgress

GAIN = 1.05
"""Factor by which a larger bucket must answer more queries per second, or it only makes them wait."""
FULL = 0.9
"""Share of the device's memory in use beyond which no larger bucket is tried: it takes up to twice the buffers."""


def choose(
    policy: BatchedPolicy,
    candidates: Sequence[int],
    memory_share: Callable[[], float | None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    on_progress: Callable[[CompilationProgress], None] | None = None,
) -> tuple[tuple[int, ...], float]:
    """Compile for the candidates in turn; those worth having, and the seconds that compiling took.

    Args:
      candidates: Numbers of rows. One alone is taken as it is.
      memory_share: Share of the device's memory that was in use at most so far; None where nobody knows.
      told: Told how far compiling is.

    Raises:
      Exception: What compiling for the smallest raises.
    """
    if len(candidates) == 1:
        return tuple(candidates), policy.prepare(candidates[0], on_progress)
    memory_share = memory_share or device_memory_share
    compile_s, call_s = 0.0, {}
    for batch_size in sorted(candidates):
        try:
            compile_s += policy.prepare(batch_size, on_progress)
            began = clock()
            policy.prepare(batch_size)  # Compiled by now: one call for each shape of query.
            call_s[batch_size] = clock() - began
        except Exception as error:
            if not call_s or not out_of_memory(error):
                raise
            break
        if (memory_share() or 0.0) > FULL:
            break
    return worth_having(call_s), compile_s


def worth_having(call_s: Mapping[int, float]) -> tuple[int, ...]:
    """Of buckets and what a call of each takes (s), those that answer faster than every smaller one."""
    chosen: list[int] = []
    best = 0.0
    for batch_size, seconds in sorted(call_s.items()):
        rate = batch_size / seconds if seconds > 0 else float("inf")
        if not chosen or rate >= GAIN * best:
            chosen.append(batch_size)
            best = rate
    return tuple(chosen)


def out_of_memory(error: Exception) -> bool:
    """Whether a device had no memory left."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def device_memory_share() -> float | None:
    """Of the fullest device that this process computes on; None where devices do not say, as CPUs."""
    if "jax" not in sys.modules:
        return None
    import jax

    shares = [
        stats["peak_bytes_in_use"] / stats["bytes_limit"]
        for device in jax.local_devices()
        if (stats := device.memory_stats()) and stats.get("bytes_limit")
    ]
    return max(shares, default=None)
