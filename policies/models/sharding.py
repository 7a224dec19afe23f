"""How weights and batches are spread over several devices, in training and when answering.

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
"""Times the bytes of the weights that answering takes: they are laid out anew one after the other, the largest of which
are a third of all, and what is computed needs room, too."""


class DevicesError(ValueError):
    """Devices that there are not, or that cannot be grouped as asked."""


def make_mesh(per_copy: int, count: int | None = None) -> Mesh:
    """The first `count` devices, or all, in groups of `per_copy` that share one copy of the parameters.

    Raises:
      DevicesError: If there are not so many, or they cannot be grouped so.
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
    """Devices for a policy of so many bytes of weights; None for the default device alone.

    Each device has all weights as long as they fit into its memory; otherwise as few devices as can hold them
    share a copy. Devices that do not say how much memory they have are taken to have enough.

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
    """Rows over all devices."""
    return NamedSharding(mesh, PartitionSpec((BATCH, FSDP)))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def rows_sharding(mesh: Mesh, rows: int) -> NamedSharding:
    """So many rows over all devices, or on every one where the devices do not divide them."""
    return batch_sharding(mesh) if rows % mesh.size == 0 else replicated(mesh)


def state_sharding(state: Any, mesh: Mesh, split_from_bytes: int = SPLIT_FROM_BYTES) -> Any:
    """A placement for every array of a state, or of anything with shapes and dtypes."""

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
    """What was made of arrays that are split over devices, split as well; left to itself it lies whole on each."""
    if isinstance(made, jax.core.Tracer):
        return made
    split = [part for part in parts if not part.sharding.is_fully_replicated]
    if not split or not isinstance(split[0].sharding, NamedSharding):
        return made
    least = min(part.size for part in split)
    mesh = split[0].sharding.mesh
    return jax.device_put(made, state_sharding(made, mesh, least * made.dtype.itemsize))
