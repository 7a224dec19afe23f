"""Peak arithmetic and bandwidth of devices, from data sheets or measured, and timing of device calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from simloop.policies.bench.roofline import Ceilings

SUSTAINED_FLOPS, SUSTAINED_BANDWIDTH = 0.80, 0.90
"""Shares of the data sheet that large products and long copies reach on an H200 (790 of 989 TFLOP/s at its
power limit, 4.3 of 4.8 TB/s); assumed for all data-centre GPUs."""


@dataclass(frozen=True)
class DataSheet:
    """Dense bfloat16 products with float32 accumulation, and memory bandwidth."""

    flops_per_s: float
    bytes_per_s: float


DATA_SHEETS = {
    # By a part of JAX's name of the device; from NVIDIA's data sheets and white papers.
    "B200": DataSheet(2250e12, 8.0e12),
    "H200": DataSheet(989e12, 4.8e12),
    "H100 PCIe": DataSheet(756e12, 2.0e12),
    "H100": DataSheet(989e12, 3.35e12),
    "A100-SXM4-80GB": DataSheet(312e12, 2.039e12),
    "A100": DataSheet(312e12, 1.555e12),
    "L40S": DataSheet(362e12, 0.864e12),
    "RTX 5090": DataSheet(209.5e12, 1.792e12),
    "RTX 4090": DataSheet(165.2e12, 1.008e12),
}

PRODUCT_SIZE = 1024
COPIED_NUMBERS = 2**24
TRIES = 7


def ceilings(dtype: str) -> Ceilings:
    """Sustained limits of the default device for products in this dtype."""
    kind = jax.devices()[0].device_kind
    if dtype == "bfloat16":
        for name, sheet in DATA_SHEETS.items():
            if name in kind:
                return Ceilings(
                    SUSTAINED_FLOPS * sheet.flops_per_s,
                    SUSTAINED_BANDWIDTH * sheet.bytes_per_s,
                    f"{kind}: {SUSTAINED_FLOPS:.0%} and {SUSTAINED_BANDWIDTH:.0%} of the data sheet",
                )
    product, negative = jax.jit(jnp.matmul), jax.jit(jnp.negative)
    square = jnp.ones((PRODUCT_SIZE, PRODUCT_SIZE), dtype)
    vector = jnp.ones((COPIED_NUMBERS,), jnp.float32)
    flops = 2 * PRODUCT_SIZE**3 / min(_seconds(lambda: product(square, square), min_calls=TRIES))
    traffic = (
        2 * vector.nbytes / min(_seconds(lambda: negative(vector), min_calls=TRIES))
    )  # Read and written.
    return Ceilings(flops, traffic, f"{kind}: measured in this process, {dtype}")


def median_seconds(call: Callable[[], object], *, min_calls: int, seconds: float) -> float:
    """Median duration of a call, until its device work is complete; the first call, which compiles, is excluded.

    Args:
      call: Function to time.
      min_calls: Least number of timed calls.
      seconds: Least total duration of all calls.
    """
    return statistics.median(_seconds(call, min_calls=min_calls, seconds=seconds))


def alternating_seconds(
    first: Callable[[], object], second: Callable[[], object], *, min_calls: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Durations of two functions that are called alternately, so that load from other programs affects both."""
    durations: tuple[list[float], list[float]] = ([], [])
    for call in (first, second):
        jax.block_until_ready(call())
    while len(durations[0]) < min_calls or sum(map(sum, durations)) < seconds:
        for call, own in zip((first, second), durations, strict=True):
            own.append(_timed(call))
    return durations


def _seconds(call: Callable[[], object], *, min_calls: int, seconds: float = 0.0) -> list[float]:
    jax.block_until_ready(call())
    durations: list[float] = []
    while len(durations) < min_calls or sum(durations) < seconds:
        durations.append(_timed(call))
    return durations


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start
