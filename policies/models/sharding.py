"""Sharding of weights and batches over several devices, in training and inference.

    mesh (batch, fsdp):  rows of a batch are split over all devices; large arrays over the fsdp axis, whose
                         devices share one copy, copied along the batch axis.

The rule is openpi's: arrays of 4 MiB and more with two axes or more are split along their largest axis
that the number of devices divides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SPLIT_FROM_BYTES = 4 << 20
BATCH, FSDP = "batch", "fsdp"
HELD_AT_ONCE = 2.4
"""Memory of inference as a multiple of the weights: arrays are laid out one after another, the largest is a third of
them, and activations need memory too."""


class DevicesError(ValueError):
    """Devices that do not exist, or that cannot be grouped as requested."""


def make_mesh(per_copy: int, count: int | None = None) -> Mesh:
    """Arrange the first `count` devices, or all, in groups of `per_copy` that share one copy of the parameters.

    Raises:
      DevicesError: If there are fewer devices, or `per_copy` does not divide their number.
    """
    devices = jax.devices()
    if count is not None and not 1 <= count <= len(devices):
        raise DevicesError(
            f"This process sees {len(devices)} devices ({devices[0].device_kind}); got {count}. Ask for no more."
        )
    devices = devices[:count]
    if per_copy < 1 or len(devices) % per_copy:
        raise DevicesError(
            f"The devices that share a copy must divide the number of devices, {len(devices)}; got {per_copy}."
        )
    return Mesh(np.array(devices).reshape(-1, per_copy), (BATCH, FSDP))


def serving_mesh(count: int, weights_bytes: int) -> Mesh | None:
    """Arrange devices for a policy whose weights take `weights_bytes`; None for the default device alone.

    Each device holds all weights if they fit into its memory; otherwise as few devices as can hold them
    share a copy. Devices that do not report their memory are assumed to have enough.

    Raises:
      DevicesError: If this process does not see so many devices, or all together have too little memory.
    """
    if count == 1:
        return None
    whole = make_mesh(1, count)
    memory = (whole.devices.flat[0].memory_stats() or {}).get("bytes_limit")
    for per_copy in range(1, count + 1):
        if count % per_copy == 0 and (memory is None or HELD_AT_ONCE * weights_bytes <= per_copy * memory):
            return make_mesh(per_copy, count)
    raise DevicesError(
        f"The weights take {weights_bytes / 1e9:.1f} GB and {HELD_AT_ONCE:g} times that while they are used; {count} "
        f"devices have {count * (memory or 0) / 1e9:.1f} GB. Use more devices."
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of rows over all devices."""
    return NamedSharding(mesh, PartitionSpec((BATCH, FSDP)))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding that holds a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def rows_sharding(mesh: Mesh, rows: int) -> NamedSharding:
    """Return the sharding of a batch: over all devices if they divide its rows, otherwise a copy on each."""
    return batch_sharding(mesh) if rows % mesh.size == 0 else replicated(mesh)


def state_sharding(state: Any, mesh: Mesh, split_from_bytes: int = SPLIT_FROM_BYTES) -> Any:
    """Return a sharding for every array of a state, or of any pytree with shapes and dtypes."""

    def place(x: Any) -> NamedSharding:
        size = mesh.shape[FSDP]
        nbytes = math.prod(x.shape) * np.dtype(x.dtype).itemsize
        if size > 1 and len(x.shape) > 1 and nbytes >= split_from_bytes:
            for axis in sorted(range(len(x.shape)), key=lambda axis: -x.shape[axis]):
                if x.shape[axis] % size == 0:
                    return NamedSharding(mesh, PartitionSpec(*[None] * axis, FSDP))
        return replicated(mesh)

    return jax.tree.map(place, state)


def split_like(made: jax.Array, parts: Sequence[jax.Array]) -> jax.Array:
    """Split an array over devices if the arrays that it was computed from are split; JAX would replicate it."""
    if isinstance(made, jax.core.Tracer):
        return made
    split = [part for part in parts if not part.sharding.is_fully_replicated]
    if not split or not isinstance(split[0].sharding, NamedSharding):
        return made
    least = min(part.size for part in split)
    mesh = split[0].sharding.mesh
    return jax.device_put(made, state_sharding(made, mesh, least * made.dtype.itemsize))
