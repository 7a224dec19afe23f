"""What devices can do: from their data sheets, or measured where there is none."""

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
power limit, 4.3 of 4.8 TB/s); taken for all data-centre GPUs."""


@dataclass(frozen=True)
class DataSheet:
    """Dense bfloat16 with float32 sums, and memory bandwidth."""

    flops_per_s: float
    bytes_per_s: float


DATA_SHEETS = {
    # By a part of the name that JAX gives the device. NVIDIA's data sheets and white papers of each.
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
    """What the default device reaches in this dtype."""
    kind = jax.devices()[0].device_kind
    if dtype == "bfloat16":
        for name, sheet in DATA_SHEETS.items():
            if name in kind:
                return Ceilings(
                    SUSTAINED_FLOPS * sheet.flops_per_s,
                    SUSTAINED_BANDWIDTH * sheet.bytes_per_s,
                    f"{kind}: {SUSTAINED_FLOPS:.0%} and {SUSTAINED_BANDWIDTH:.0%} of the data sheet",
                )
    return measured(dtype)


def measured(dtype: str) -> Ceilings:
    """The best of several products of square matrices, and of several passes over a long array."""
    square = jnp.ones((PRODUCT_SIZE, PRODUCT_SIZE), dtype)
    flops = 2 * PRODUCT_SIZE**3 / _best(jax.jit(jnp.matmul), square, square)
    # Read and written once each.
    long = jnp.ones((COPIED_NUMBERS,), jnp.float32)
    traffic = 2 * long.nbytes / _best(jax.jit(jnp.negative), long)
    return Ceilings(flops, traffic, f"{jax.devices()[0].device_kind}: measured in this process, {dtype}")


def _best(function: Callable[..., jax.Array], *arguments: jax.Array) -> float:
    return min(seconds_of(function, *arguments, at_least=TRIES, seconds=0.0))


def seconds_of(function: Callable, *arguments: object, at_least: int, seconds: float) -> list[float]:
    """How long calls take, to the end of their work on the device; the first, which compiles, is left out.

    Args:
      function: What is called.
      arguments: What with.
      at_least: Number of calls.
      seconds: Calls go on until so much time has passed.
    """
    jax.block_until_ready(function(*arguments))
    taken: list[float] = []
    while len(taken) < at_least or sum(taken) < seconds:
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        taken.append(time.perf_counter() - start)
    return taken


def in_turns(
    first: Callable[[], object], second: Callable[[], object], *, at_least: int, seconds: float
) -> tuple[list[float], list[float]]:
    """`seconds_of` two functions that are called one after the other, so that both meet the same machine."""
    taken: tuple[list[float], list[float]] = ([], [])
    for function in (first, second):
        jax.block_until_ready(function())
    while len(taken[0]) < at_least or sum(map(sum, taken)) < seconds:
        for function, times in zip((first, second), taken, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function())
            times.append(time.perf_counter() - start)
    return taken


def median_of(function: Callable, *arguments: object, at_least: int, seconds: float) -> float:
    """The median of `seconds_of`."""
    return statistics.median(seconds_of(function, *arguments, at_least=at_least, seconds=seconds))
