"""How parameters and batches are spread over the devices: data-parallel, and FSDP within groups.

    mesh (batch, fsdp):  rows of a batch are split over all devices; large parameters, their moments and
                         averages over the fsdp axis, copied along the batch axis.

The rule is openpi's: arrays of 4 MiB and more with two axes or more are split along their largest axis
that the number of devices divides.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from policies.training.errors import TrainingError

SPLIT_FROM_BYTES = 4 << 20
BATCH, FSDP = "batch", "fsdp"


def make_mesh(fsdp_devices: int) -> Mesh:
    """All devices, in groups of `fsdp_devices` that share one copy of the parameters.

    Raises:
      TrainingError: If the devices cannot be grouped so.
    """
    devices = jax.devices()
    if fsdp_devices < 1 or len(devices) % fsdp_devices:
        raise TrainingError(
            f"fsdp_devices must divide the number of devices, {len(devices)}; got {fsdp_devices}."
        )
    return Mesh(np.array(devices).reshape(-1, fsdp_devices), (BATCH, FSDP))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over all devices."""
    return NamedSharding(mesh, PartitionSpec((BATCH, FSDP)))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(state: Any, mesh: Mesh, split_from_bytes: int = SPLIT_FROM_BYTES) -> Any:
    """A placement for every array of a state, or of anything with shapes and dtypes."""

    def place(x: Any) -> NamedSharding:
        size = mesh.shape[FSDP]
        nbytes = math.prod(x.shape) * np.dtype(x.dtype).itemsize
        if size > 1 and len(x.shape) > 1 and nbytes >= split_from_bytes:
            for axis in sorted(range(len(x.shape)), key=lambda axis: -x.shape[axis]):
                if x.shape[axis] % size == 0:
                    axes = [None] * len(x.shape)
                    return NamedSharding(mesh, PartitionSpec(*axes[:axis], FSDP))
        return replicated(mesh)

    return jax.tree.map(place, state)
